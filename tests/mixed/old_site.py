"""The programs of an old Reimzul fleet, written from the description of its formats alone.

    old_site.py PORT submit [--now] [--scratch] SRPM ARCH TARGET DISTTAG SUBMITTER [FIELD=VALUE…]
    old_site.py PORT work TUBE REPO STATUS FILE…   a worker's next job: results into REPO/TARGET, events, a request
    old_site.py PORT notify DATABASE COUNT         a notifier's next COUNT events: documents, log lines, `tosign`
    old_site.py PORT repogen TARGET                an operator's request for metadata
    old_site.py PORT read TUBE                     every job of a tube, with what the server says of it; deletes them

Jobs are deleted as soon as they are reserved, as the old programs do. Answers are JSON, one a line.
"""

import datetime
import json
import os
import shutil
import sys
import time

import greenstalk

TTR = 120
TUBES = {"armhfp": "armv7l", "i686": "i386"}
FOLLOW_UP = 2**31


def submit(client, words):
    flags = [word for word in words if word.startswith("--")]
    srpm, arch, target, disttag, submitter, *more = [word for word in words if not word.startswith("--")]
    job = {"srpm": srpm, "arch": arch, "target": target + "." + arch, "disttag": disttag}
    job.update({"scratch": "--scratch" in flags, "submitter": submitter})
    job.update(dict(field.split("=", 1) for field in more))
    client.use(TUBES.get(arch, arch))
    client.put(json.dumps(job), priority=1024 if "--now" in flags else 8192, ttr=TTR)


def take(client, tube):
    client.watch(tube)
    client.ignore("default")
    job = client.reserve(timeout=60)
    client.delete(job)
    return json.loads(job.body)


def tell(client, tube, body):
    client.use(tube)
    client.put(json.dumps(body), priority=FOLLOW_UP, ttr=TTR)


def work(client, tube, repo, status, *files):
    job = take(client, tube)
    pkgname, version, release = job["srpm"][: -len(".src.rpm")].rsplit("-", 2)
    evr = version + "-" + release
    job.update({"pkgname": pkgname, "evr": evr, "builder_fqdn": "old-builder"})
    job["timestamp"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d%H%M%S")
    job["status"] = "Building"
    tell(client, "notify", job)
    folder = os.path.join(repo, job["target"], pkgname, job["timestamp"], evr + "." + job["arch"])
    os.makedirs(folder)
    for log in ("build.log", "root.log", "state.log"):
        open(os.path.join(folder, log), "w").close()
    for file in files:
        shutil.copy(file, folder)
    job["status"] = status
    tell(client, "notify", job)
    if status == "Success":
        tell(client, "createrepo", job)
    print(json.dumps({"timestamp": job["timestamp"]}))


def notify(client, database, count):
    import pymongo

    history = pymongo.MongoClient(database, serverSelectionTimeoutMS=10000).get_default_database()["notify_history"]
    for _ in range(int(count)):
        event = take(client, "notify")
        line = "[%s] Build job SRPM %s (%s) for arch %s builder %s status %s [%s] (Scratch job: %s) submitted by %s \r\n" % (
            time.asctime(),
            event["srpm"],
            event["timestamp"],
            event["arch"],
            event["builder_fqdn"],
            event["status"],
            event["evr"],
            event["scratch"],
            event["submitter"],
        )
        if event["status"] in ("Success", "Failed"):
            build = {name: event[name] for name in ("srpm", "arch", "target")}
            former = history.find_one({**build, "latest_build": True}, sort=[("_id", pymongo.DESCENDING)])
            if former:
                history.update_one({"_id": former["_id"]}, {"$set": {"latest_build": False}})
            building = {**build, "timestamp": event["timestamp"], "status": "Building"}
            history.update_one(building, {"$set": {"status": "Done"}})
            if not event["scratch"]:
                names = ("pkgname", "status", "target", "arch", "timestamp")
                tell(client, "tosign", {name: event[name] for name in names})
            history.insert_one({**event, "latest_build": True})
        else:
            history.insert_one(event)
        print(json.dumps({"log": line}))


def read(client, tube):
    client.watch(tube)
    client.ignore("default")
    while True:
        try:
            job = client.reserve(timeout=0)
        except greenstalk.TimedOutError:
            return
        stats = client.stats_job(job)
        client.delete(job)
        print(json.dumps({"body": json.loads(job.body), "pri": stats["pri"], "ttr": stats["ttr"]}))


def main():
    port, what, *words = sys.argv[1:]
    with greenstalk.Client(("127.0.0.1", int(port))) as client:
        if what == "submit":
            submit(client, words)
        elif what == "work":
            work(client, *words)
        elif what == "notify":
            notify(client, *words)
        elif what == "repogen":
            tell(client, "createrepo", {"target": words[0]})
        elif what == "read":
            read(client, *words)
        else:
            sys.exit(__doc__)


main()
