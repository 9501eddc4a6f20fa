#!/usr/bin/python3
"""Says how the metadata of two repositories differs, as createrepo_c's own parser reads it.

describe.py ONE OTHER: prints a line per difference, and ends with 1 if there is any.
"""

import sys
from collections import Counter

import createrepo_c as cr

FIELDS = """name arch version epoch release summary description url time_file time_build rpm_license rpm_vendor
    rpm_group rpm_buildhost rpm_sourcerpm rpm_header_start rpm_header_end rpm_packager size_package size_installed
    size_archive location_href location_base checksum_type pkgId requires provides conflicts obsoletes suggests
    enhances recommends supplements""".split()
IDENTITY = "name arch version epoch release pkgId".split()


def plain(value):
    return value or "" if not isinstance(value, list) else value


def primary(path):
    found = []
    cr.xml_parse_primary(path, pkgcb=found.append, do_files=1, warningcb=complain)
    return [
        tuple((name, repr(plain(getattr(package, name)))) for name in FIELDS) + (("files", repr(files(package))),)
        for package in found
    ]


def files(package):
    return [(kind or "", folder + name) for kind, folder, name, *_ in package.files]


def listed(parse, path, what):
    found = []

    def begin(pkgid, name, arch):
        package = cr.Package()
        package.pkgId, package.name, package.arch = pkgid, name, arch
        found.append(package)
        return package

    parse(path, newpkgcb=begin, warningcb=complain)
    return [
        tuple((name, repr(plain(getattr(package, name)))) for name in IDENTITY) + (("what", repr(what(package))),)
        for package in found
    ]


def complain(kind, message):
    print(f"warning {kind}: {message}")
    return True


def lists(repository):
    repomd = cr.Repomd(f"{repository}/repodata/repomd.xml")
    paths = {record.type: f"{repository}/{record.location_href}" for record in repomd.records}
    return {
        "primary": primary(paths["primary"]),
        "filelists": listed(cr.xml_parse_filelists, paths["filelists"], files),
        "other": listed(cr.xml_parse_other, paths["other"], lambda package: package.changelogs),
    }


def differences(kind, one, other):
    ours, theirs = Counter(one), Counter(other)
    missing, extra = list((theirs - ours).elements()), list((ours - theirs).elements())
    for package in missing:
        name = dict(package)["name"]
        like = next((found for found in extra if dict(found)["name"] == name), None)
        if like is None:
            yield f"{kind}: {name} is missing"
            continue
        extra.remove(like)
        for field, value in package:
            if dict(like)[field] != value:
                yield f"{kind}: {name}: {field} is {dict(like)[field]} where it should be {value}"
    for package in extra:
        yield f"{kind}: {dict(package)['name']} is there and should not be"


def main():
    one, other = lists(sys.argv[1]), lists(sys.argv[2])
    found = [line for kind in one for line in differences(kind, one[kind], other[kind])]
    for line in found[:40]:
        print(line)
    print(len(one["primary"]), "packages,", len(found), "differences")
    sys.exit(1 if found else 0)


main()
