"""A Hub on this machine: repositories of data and of models in memory; files are uploaded in the commit itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

_RESOLVE = re.compile(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_API = re.compile(
    r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|preupload|commit|paths-info|branch))?(?:/([^/?]+))?"
)


class FakeHub:
    """Repositories and what was asked.

    Attributes:
        repos: name -> path -> content.
        private: name -> whether it is private.
        commits: name -> how many.
        tokens: authorization headers that were sent.
        asked: "METHOD path", in order.
        branches: those that something was sent to.
        refuse: so many uploads are answered with "busy".
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: dict[str, int] = {}
        self.tokens: set[str] = set()
        self.asked: list[str] = []
        self.branches: set[str] = set()
        self.refuse = 0


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        self._note()
        path = unquote(self.path.partition("?")[0])
        if found := _RESOLVE.fullmatch(path):
            self._file(found[1], found[3])
        elif path == "/api/whoami-v2":
            self._json({"name": "me", "type": "user"})
        elif found := _API.fullmatch(path):
            self._about(found[1], found[2])
        else:
            self._missing("EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self._note()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._pieces())
        path = unquote(self.path.partition("?")[0])
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := _API.fullmatch(path):
            if self.hub.refuse > 0:
                self.hub.refuse -= 1
                self._json({"error": "busy"}, 503)
                return
            self.hub.branches.add(found[3] or "main")
            answers = {"preupload": self._modes, "commit": self._commit, "paths-info": self._paths}
            answers.get(found[2], lambda name, body: self._json({}))(found[1], body)

    def _pieces(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _note(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        self.hub.tokens.add(self.headers.get("Authorization", ""))

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else f"me/{wanted['name']}"
        known = name in self.hub.repos
        if not known:
            self.hub.repos[name], self.hub.commits[name] = {}, 0
            self.hub.private[name] = bool(wanted.get("private") or wanted.get("visibility") == "private")
        self._json({"url": f"{self.hub.address}/datasets/{name}"}, 409 if known else 200)

    def _modes(self, name: str, body: bytes) -> None:
        files = [
            {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def _commit(self, name: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.hub.repos[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.hub.commits[name] += 1
        url = f"{self.hub.address}/datasets/{name}/commit/{self._sha(name)}"
        self._json({"commitUrl": url, "commitOid": self._sha(name), "hookOutput": ""})

    def _paths(self, name: str, body: bytes) -> None:
        self._json([])

    def _sha(self, name: str) -> str:
        return hashlib.sha1(f"{name} {self.hub.commits[name]}".encode()).hexdigest()

    def _about(self, name: str, what: str | None) -> None:
        if name not in self.hub.repos:
            self._missing("RepoNotFound")
            return
        files = self.hub.repos[name]
        if what == "tree":
            oids = {path: hashlib.sha1(content).hexdigest() for path, content in files.items()}
            tree = [{"type": "file", "path": p, "size": len(c), "oid": oids[p]} for p, c in files.items()]
            self._json(tree)
            return
        siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
        about = {"id": name, "sha": self._sha(name), "private": self.hub.private[name], "siblings": siblings}
        self._json({**about, "tags": [], "downloads": 0, "likes": 0})

    def _file(self, name: str, path: str) -> None:
        if name not in self.hub.repos:
            self._missing("RepoNotFound")
        elif path not in self.hub.repos[name]:
            self._missing("EntryNotFound", {"X-Repo-Commit": self._sha(name)})
        else:
            content = self.hub.repos[name][path]
            mark = hashlib.sha1(content).hexdigest()
            self._answer(content, 200, {"X-Repo-Commit": self._sha(name), "ETag": f'"{mark}"'})

    def _missing(self, code: str, headers: dict[str, str] | None = None) -> None:
        self._answer(b"{}", 404, {"X-Error-Code": code, "X-Error-Message": "not found", **(headers or {})})

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def _answer(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A Hub until the end of the block."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub = FakeHub(f"http://127.0.0.1:{server.server_address[1]}")
    handler.hub = hub  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
