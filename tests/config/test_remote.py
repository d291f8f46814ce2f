"""Configs behind a web address, from a server on this machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from newt.config import remote
from newt.config.source import read
from newt.support import log

PAGES = {
    "/c.yml": b"base_model: x/y\nlora_alhpa: 8\n",
    "/c.json": b'{"base_model": "x/y"}',
    "/page": b"<!doctype html><html></html>",
    "/bytes": b"\xff\xfe\x00",
    "/large": b"a: 1\n" * 900_000,
    "/empty": b"",
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", "http://" + self.path.removeprefix("/to/"))
            self.end_headers()
            return
        body = PAGES.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    log.warn.cache_clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_config_is_read_and_kept(server, tmp_path, capsys):
    found = read(f"{server}/c.yml")
    assert found.values == {"base_model": "x/y", "lora_alhpa": 8}
    assert found.path is not None
    assert found.path.read_bytes() == PAGES["/c.yml"]
    assert tmp_path in found.path.parents
    assert str(found.where("lora_alhpa")) == f"{server}/c.yml:2"
    assert str(found.path) in capsys.readouterr().err


def test_json_warns(server, capsys):
    assert read(f"{server}/c.json").values == {"base_model": "x/y"}
    assert "probably the wrong link" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none.yml", "cannot be downloaded: the server answered 404"),
        ("/page", "is a web page, not a YAML file."),
        ("/bytes", "is not a text file in UTF-8."),
        ("/large", "is too large to be a config."),
        ("/empty", "is empty."),
        ("/to/example.org/c.yml", "is not encrypted"),
    ],
)
def test_what_is_wrong(server, path, message):
    found = read(server + path)
    assert found.values is None
    assert len(found.problems) == 1
    assert str(found.problems[0]).startswith(f"{server}{path}: {message}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/c.yml", "is not encrypted, so anybody on the way could change it. Use https."),
        ("https:///c.yml", "is not a web address"),
        ("http://127.0.0.1:1/c.yml", "cannot be downloaded: connection refused."),
    ],
)
def test_addresses_that_are_refused(url, message):
    assert str(read(url).problems[0]).startswith(f"{url}: {message}")


def test_the_command_line_takes_an_address(server, capsys):
    from newt.cli import main

    with pytest.raises(SystemExit) as end:
        main(["check", f"{server}/c.yml", "--no-facts"])
    assert end.value.code == 2
    assert f"{server}/c.yml:2: lora_alhpa: unknown key. Did you mean lora_alpha?" in capsys.readouterr().out


def test_the_download_has_a_limit_of_time(server, monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT", -1.0)
    monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *_, **__: _Slow())
    found = read(f"{server}/c.yml")
    assert "no answer within" in str(found.problems[0])


class _Slow:
    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None

    def read1(self, size):
        return b"a"
