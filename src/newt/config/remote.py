"""A config behind a web address: downloaded once, into a file that stays."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from newt.support.errors import NewtError
from newt.support.log import note, warn

TIMEOUT = 30.0
"""Seconds for the whole download."""
MAX_BYTES = 4_000_000
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CHUNK = 65_536


class DownloadError(NewtError):
    """There is no config at a web address; the message says why, without the address."""


def is_url(source: object) -> bool:
    """Whether a source is a web address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def download(url: str) -> Path:
    """Fetch a config into a temporary file.

    Raises:
        DownloadError: the address is not https (http only on this machine), there is no answer within 30 seconds, or
            the answer is not a config.
    """
    text = _text(_fetch(url))
    if _is_json(text):
        warn(f"{url} is JSON. JSON is valid YAML, but this is probably the wrong link.")
    elif text.lstrip()[:1] == "<":
        raise DownloadError(f"is a web page, not a YAML file. {_raw_hint(url)}")
    name = PurePosixPath(urlsplit(url).path).stem or "config"
    path = Path(tempfile.mkdtemp(prefix="newt-config-")) / f"{name}.yml"
    path.write_text(text, encoding="utf-8")
    note(f"Downloaded {url} to {path}")
    return path


def _fetch(url: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    check_scheme(url)
    try:
        with answer_of(url, "application/yaml, text/plain, */*") as answer:
            return _read(answer)
    except HTTPError as error:
        raise DownloadError(f"cannot be downloaded: the server answered {error.code} {error.reason}.") from error
    except URLError as error:
        raise DownloadError(f"cannot be downloaded: {_reason(error.reason)}.") from error
    except TimeoutError as error:
        raise DownloadError(f"cannot be downloaded: no answer within {TIMEOUT:g} seconds.") from error
    except (OSError, HTTPException, ValueError) as error:
        raise DownloadError(f"cannot be downloaded: {_reason(error)}.") from error


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:g} seconds"
    return str(getattr(error, "strerror", None) or error).lower()


def _read(answer: Any) -> bytes:
    """The body, within the limits of size and time."""
    end = time.monotonic() + TIMEOUT
    body = b""
    while chunk := answer.read1(_CHUNK):
        body += chunk
        if len(body) > MAX_BYTES:
            raise DownloadError("is too large to be a config.")
        if time.monotonic() > end:
            raise TimeoutError
    return body


def check_scheme(url: str) -> None:
    """Refuse an address that is not https (http only on this machine).

    Raises:
        DownloadError: without the address.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() == "http" and parts.hostname not in LOOPBACK:
        raise DownloadError("is not encrypted, so anybody on the way could change it. Use https.")
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise DownloadError("is not a web address that can be read. Use https.")


def answer_of(url: str, accept: str = "*/*") -> Any:
    """Open a web address for reading; redirects go only to addresses that could have been given directly.

    Raises:
        OSError: there is no answer within 30 seconds, or the server refuses.
        DownloadError: a redirect to an address that is not encrypted.
    """
    from urllib.request import Request, build_opener

    request = Request(url, headers={"User-Agent": "newt", "Accept": accept})
    return build_opener(_redirects()).open(request, timeout=TIMEOUT)


def _redirects() -> Any:
    from urllib.request import HTTPRedirectHandler

    class Redirects(HTTPRedirectHandler):
        """Follows a redirect only to an address that could have been given directly."""

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            check_scheme(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return Redirects()


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DownloadError("is not a text file in UTF-8.") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return text.lstrip()[:1] in ("{", "[")


def _raw_hint(url: str) -> str:
    return "Use the link to the raw file." if "/blob/" in url else "Use the link to the file itself."
