"""What an old Reimzul fleet does with its database, written from the description of its formats alone.

    old_fleet.py URL notify           events on standard input, a JSON object a line, as the old notifier keeps them
    old_fleet.py URL insert           documents on standard input, put in as they are
    old_fleet.py URL query STATUS [TARGET]
    old_fleet.py URL override SRPM TARGET ARCH COMMENT
    old_fleet.py URL dump             every document, with the type of each field

Answers are JSON, a document a line.
"""

import json
import sys

import pymongo


def notify(history, event):
    if event["status"] in ("Success", "Failed"):
        build = {name: event[name] for name in ("srpm", "arch", "target")}
        former = history.find_one({**build, "latest_build": True}, sort=[("_id", pymongo.DESCENDING)])
        if former:
            history.update_one({"_id": former["_id"]}, {"$set": {"latest_build": False}})
        history.update_one(
            {**build, "timestamp": event["timestamp"], "status": "Building"}, {"$set": {"status": "Done"}}
        )
        event["latest_build"] = True
    history.insert_one(event)


def query(history, status, target=None):
    wanted = {"status": status}
    if status != "Building":
        wanted["latest_build"] = True
    if target:
        wanted["target"] = target
    return history.find(wanted)


def override(history, srpm, target, arch, comment):
    latest = {"srpm": srpm, "target": target, "arch": arch, "latest_build": True}
    history.update_one(latest, {"$set": {"status": "Override", "comment": comment}})


def main():
    url, what, *words = sys.argv[1:]
    history = pymongo.MongoClient(url, serverSelectionTimeoutMS=10000).get_default_database()["notify_history"]
    if what == "notify":
        for line in sys.stdin:
            notify(history, json.loads(line))
    elif what == "insert":
        history.insert_many([json.loads(line) for line in sys.stdin])
    elif what == "query":
        for document in query(history, *words):
            print(json.dumps({name: value for name, value in document.items() if name != "_id"}))
    elif what == "override":
        override(history, *words)
    elif what == "dump":
        for document in history.find().sort("_id", pymongo.ASCENDING):
            print(json.dumps({name: [type(value).__name__, str(value)] for name, value in document.items()}))
    else:
        sys.exit(__doc__)


main()
