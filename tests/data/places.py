"""Places that rows come from, as tests need them: a web server and an object store, both on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from newt.data import addresses

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "adl", "oci")


class Web:
    """Files of a server, what was asked of it, and how it misbehaves.

    Attributes:
        files: path -> content.
        asked: paths in the order of the requests.
        failures: statuses of the next answers; 0 cuts an answer off in the middle.
        marks: send an ETag.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.failures: list[int] = []
        self.marks = True


@contextmanager
def web_server() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].lstrip("/")
            web.asked.append(self.path.lstrip("/"))
            status = web.failures.pop(0) if web.failures else None
            content = web.files.get(path)
            if status:
                self.send_error(status)
                return
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            if web.marks:
                self.send_header("ETag", hashlib.sha256(content).hexdigest())
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if status == 0 else content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Web(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


class Bucket(MemoryFileSystem):
    """An object store in memory, for any scheme."""

    cachable = False
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    made_with: ClassVar[list[dict[str, Any]]] = []
    errors: ClassVar[list[Exception]] = []

    def __init__(self, token: str | None = None, anon: bool = False, client: Any = None, **others: Any) -> None:
        super().__init__(**others)
        Bucket.made_with.append({"token": token, "anon": anon})
        if client is not None:
            client["hf"] = 1

    def info(self, path: str, **keys: Any) -> Any:
        if Bucket.errors:
            raise Bucket.errors.pop(0)
        return super().info(path, **keys)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.partition("://")[2] or path))

    @classmethod
    def put_all(cls, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            cls().pipe_file(name, content)
        cls.made_with.clear()


@contextmanager
def buckets() -> Iterator[type[Bucket]]:
    """An empty ``Bucket`` behind every scheme, until the end of the block."""
    known = dict(_registry)
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
    Bucket.errors.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses, "find_spec", lambda _: True)
        for scheme in SCHEMES:
            fsspec.register_implementation(scheme, Bucket, clobber=True)
        yield Bucket
    _registry.clear()
    _registry.update(known)
