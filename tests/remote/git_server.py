#!/usr/bin/env python3
"""A site's git server for the tests: git http-backend below /r, the lookaside's files below /sources, through TLS.

Usage: git_server.py PORT PEM REPOSITORIES SOURCES
"""

import functools
import http.server
import os
import ssl
import subprocess
import sys
import urllib.parse

PORT, PEM, REPOSITORIES, SOURCES = sys.argv[1:]


class Site(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/r/"):
            self.git()
        else:
            super().do_GET()

    def do_POST(self):
        self.git()

    def translate_path(self, path):
        return super().translate_path(path.removeprefix("/sources"))

    def git(self):
        """As a web server calls it (git-http-backend(1), RFC 3875)."""
        url = urllib.parse.urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": REPOSITORIES,
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": urllib.parse.unquote(url.path),
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        program = ["git", "http-backend"]
        answer = subprocess.run(program, input=body, env=environment, stdout=subprocess.PIPE, check=True).stdout
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(PEM)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), functools.partial(Site, directory=SOURCES))
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
