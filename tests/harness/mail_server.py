#!/usr/bin/env python3
"""A mail server for the tests: every mail that it takes becomes a JSON file in a folder.

Usage: mail_server.py PORT FOLDER [--tls PEM | --starttls PEM] [--login USER:PASSWORD] [--refuse ADDRESS] [--slow SECONDS]
"""

import argparse
import asyncio
import email
import email.policy
import json
import os
import ssl

from aiosmtpd.smtp import SMTP, AuthResult


class Box:
    """What comes in, one file each, whole or not at all."""

    def __init__(self, folder, refused, slow):
        self.folder, self.refused, self.slow = folder, refused, slow

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == self.refused:
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(self.slow)
        mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        longest = max(len(line) for line in envelope.original_content.split(b"\r\n"))
        record = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "body": mail.get_content().replace("\r\n", "\n"),
            "encrypted": server.transport.get_extra_info("ssl_object") is not None,
            "login": session.auth_data.login.decode() if session.auth_data else None,
            "longest": longest,
            "ascii": envelope.original_content.isascii(),
        }
        number = len(os.listdir(self.folder))
        whole = os.path.join(self.folder, f"{number:05}.json")
        with open(whole + ".part", "w") as file:
            json.dump(record, file)
        os.rename(whole + ".part", whole)
        return "250 OK"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder")
    for option in ("--tls", "--starttls", "--login", "--refuse"):
        parser.add_argument(option)
    parser.add_argument("--slow", type=float, default=0)
    given = parser.parse_args()

    context = None
    if pem := given.tls or given.starttls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pem)

    def check(server, session, envelope, mechanism, data):
        good = f"{data.login.decode()}:{data.password.decode()}" == given.login
        return AuthResult(success=good, handled=False, auth_data=data)

    def serve():
        return SMTP(
            Box(given.folder, given.refuse, given.slow),
            tls_context=context if given.starttls else None,
            require_starttls=bool(given.starttls),
            authenticator=check,
            auth_required=bool(given.login),
            auth_require_tls=bool(given.starttls),
        )

    async def run():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(serve, "127.0.0.1", given.port, ssl=context if given.tls else None)
        await server.serve_forever()

    asyncio.run(run())


main()
