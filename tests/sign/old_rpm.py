#!/usr/bin/python3
"""Writes an RPM as rpm before 4.14 did: IN without the digest of its payload in the header, to OUT."""

import hashlib
import struct
import sys

LEAD = 96
PAYLOAD_DIGESTS = {5092, 5093, 5097}
STRING, BINARY, INT32 = 6, 7, 4
WIDTH = {3: 2, 4: 4, 5: 8}


def read(data, at):
    """The entries of the header at an offset, and where it ends."""
    count, size = struct.unpack_from(">II", data, at + 8)
    store = at + 16 + count * 16
    entries = []
    for number in range(count):
        tag, kind, offset, items = struct.unpack_from(">IIII", data, at + 16 + number * 16)
        begin = store + offset
        if kind in (6, 8, 9):
            end = begin
            for _ in range(items):
                end = data.index(b"\0", end) + 1
        else:
            end = begin + items * WIDTH.get(kind, 1)
        entries.append((tag, kind, items, data[begin:end]))
    return entries, store + size


def write(region, entries):
    index, store = b"", b""
    for tag, kind, items, value in sorted(entries):
        store += b"\0" * (-len(store) % WIDTH.get(kind, 1))
        index += struct.pack(">IIII", tag, kind, len(store), items)
        store += value
    count = len(entries) + 1
    first = struct.pack(">IIII", region, BINARY, len(store), 16)
    store += struct.pack(">IIiI", region, BINARY, -count * 16, 16)
    return b"\x8e\xad\xe8\1\0\0\0\0" + struct.pack(">II", count, len(store)) + first + index + store


def main(source, target):
    with open(source, "rb") as file:
        data = file.read()
    _, end = read(data, LEAD)
    at = end + (-end % 8)
    entries, payload_at = read(data, at)
    payload = data[payload_at:]
    header = write(63, [entry for entry in entries if entry[0] not in PAYLOAD_DIGESTS and entry[0] != 63])
    signature = write(62, [
        (269, STRING, 1, hashlib.sha1(header).hexdigest().encode() + b"\0"),
        (1000, INT32, 1, struct.pack(">I", len(header) + len(payload))),
        (1004, BINARY, 16, hashlib.md5(header + payload).digest()),
    ])
    signature += b"\0" * (-len(signature) % 8)
    with open(target, "wb") as file:
        file.write(data[:LEAD] + signature + header + payload)


main(sys.argv[1], sys.argv[2])
