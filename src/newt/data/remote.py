"""Files behind addresses, of object stores (through fsspec) and of the web, for the readers that read local files.

A file is fetched once and whole into a folder of this machine, under its address and its version, because it is read
several times: counted, looked at, tokenized. What the store says of it (ETag, size, date) stands for its content, so
that a run that finds its prepared data fetches nothing. A stream reads the file directly.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from glob import has_magic
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import datasets

from newt.config.core import Dataset
from newt.config.remote import DownloadError, answer_of
from newt.data.addresses import STORES, WEB, scheme, shown
from newt.data.preflight import is_data_name, wanted_files
from newt.data.retry import first_line, is_offline, may_pass, retried
from newt.support.errors import DataError
from newt.support.files import sha256_file

_MARKS = ("ETag", "etag", "md5Hash", "generation", "blob_id", "size", "LastModified", "last_modified", "updated")
"""What stores say of a file that changes with its content; of the rest of what they say much changes by itself."""
_MORE_MARKS = ("mtime", "created")
_PIECE = 1 << 20
_SAVED = ("dataset_dict.json", "state.json")


Errors = tuple[type[Exception], ...]


@dataclass(frozen=True)
class RemoteFile:
    """One file behind an address.

    Attributes:
        address: all of it.
        place: path in its folder, for names of splits.
        reader: opens it.
        version: what the store says of its content, "" if it says nothing.
        size: bytes, if they are known.
        errors: what reading it may raise.
        hide: takes secrets out of a text.
        stream: read it directly instead of fetching it first.
        seeks: what ``reader`` gives can be read at any place.
    """

    address: str
    place: PurePosixPath
    reader: Callable[[], BinaryIO]
    version: str
    size: int | None
    errors: Errors
    hide: Callable[[str], str] = field(default=str, repr=False)
    stream: bool = False
    seeks: bool = False

    def __str__(self) -> str:
        return shown(self.address)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(unquote(_path_of(self.address))).name

    def open(self) -> BinaryIO:
        """Its bytes from the beginning."""
        if self.stream:
            return retried(self.reader, self.errors, self._failure)
        return self.local.open("rb")

    def table(self) -> Path | BinaryIO:
        """The fetched file; of a stream what can be read at any place."""
        return self.open() if self.stream and self.seeks else self.local

    def fingerprint(self) -> str:
        """What the store says of the content; where it says nothing, SHA-256 of the content."""
        if not self.version:
            return sha256_file(self.local)
        return hashlib.sha256(f"{self}\n{self.version}".encode()).hexdigest()

    def why(self, error: Exception) -> str:
        """What is wrong, without secrets."""
        return f"cannot be read: {self.hide(_said(error))}"

    @cached_property
    def local(self) -> Path:
        """The file on this machine; it is fetched if it is not there in this version.

        Raises:
            DataError: it cannot be fetched.
        """
        target = _folder(f"{self.address}\n{self.version}") / (self.name or "file")
        if not self.version or not target.is_file():
            retried(lambda: self._fetch(target), self.errors, self._failure)
        return target

    def _fetch(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with self.reader() as source, partial.open("wb") as copy:
                shutil.copyfileobj(source, copy, _PIECE)
                copy.flush()
                os.fsync(copy.fileno())
            got = partial.stat().st_size
            if self.size is not None and got != self.size:
                raise ConnectionError(f"the connection ended after {got:,} of {self.size:,} bytes")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _failure(self, error: Exception) -> DataError:
        return DataError(f"{self}: {self.why(error)}")


@dataclass(frozen=True)
class Found:
    """Files that an entry names.

    Attributes:
        files: (split, if ``data_files`` says it; the file), in reading order.
        folder: ``path`` is a folder whose files were listed.
        saved: the folder was written by ``save_to_disk``.
    """

    files: list[tuple[str | None, RemoteFile]]
    folder: bool = False
    saved: bool = False


def find(entry: Dataset, stream: bool) -> Found:
    """Look up the files of an entry whose path is an address.

    Raises:
        DataError: nothing is there, or nobody answers.
    """
    named = wanted_files(entry)
    if named is None:
        return _at(entry, entry.path, stream)
    base = entry.path if scheme(entry.path) else ""
    files = []
    for split, name in named:
        address = name if scheme(name) else f"{base.rstrip('/')}/{name}"
        files += [(split, file) for _, file in _at(entry, address, stream).files]
    return Found(files)


def copy_of(found: Found) -> Path:
    """A saved dataset on this machine, whole."""
    versions = "\n".join(f"{file.address} {file.version}" for _, file in found.files)
    folder = _folder(versions)
    for _, file in found.files:
        target = folder / file.place
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            fetched = file.local
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(fetched, target)
    return folder


def _at(entry: Dataset, address: str, stream: bool) -> Found:
    if scheme(address) in WEB:
        return Found([(None, _of_the_web(address, stream))])
    store = _Store(address, entry.storage_options or {})
    return retried(lambda: store.files(entry, stream), store.errors, store.failure)


def _folder(identity: str) -> Path:
    """Where a fetched file lies: next to what the datasets library downloads."""
    place = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return Path(datasets.config.DOWNLOADED_DATASETS_PATH) / "newt" / place


def _path_of(address: str) -> str:
    return urlsplit(address).path if scheme(address) in WEB else address


def _said(error: Exception) -> str:
    """One sentence about an error, and what to do."""
    if is_offline(error):
        return "offline mode is on (HF_HUB_OFFLINE). Go online."
    if isinstance(error, FileNotFoundError):
        return "it does not exist. Check the address."
    text = getattr(error, "reason", None) or first_line(error)
    text = f"{getattr(error, 'code', '')} {text}".strip().rstrip(".")
    if may_pass(error):
        return f"{text}. Check the network."
    denied = isinstance(error, PermissionError) or "credential" in f"{type(error).__name__} {text}".lower()
    return f"{text}. Check the {'credentials (storage_options)' if denied else 'address and storage_options'}."


# --------------------------------------------------------------------------- the web


def _of_the_web(address: str, stream: bool) -> RemoteFile:
    from http.client import HTTPException

    errors = (OSError, HTTPException, DownloadError)
    unknown = RemoteFile(address, PurePosixPath(), lambda: _answer(address), "", None, errors)
    headers = retried(lambda: _headers(address), errors, unknown._failure)
    length = headers.get("Content-Length")
    size = int(length) if length and length.isdigit() and not headers.get("Content-Encoding") else None
    version = headers.get("ETag") or ""
    if not version and headers.get("Last-Modified") and size is not None:
        version = f"{headers['Last-Modified']} {size}"
    place = PurePosixPath(unknown.name)
    return RemoteFile(address, place, unknown.reader, version, size, errors, stream=stream)


def _answer(address: str) -> BinaryIO:
    answer: BinaryIO = answer_of(address)
    return answer


def _headers(address: str) -> Any:
    """Asked for with GET, because many servers answer HEAD differently; nothing of the body is read."""
    with answer_of(address) as answer:
        return answer.headers


# --------------------------------------------------------------------------- object stores


class _Store:
    """The file system behind an address."""

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self.address = address
        self._scheme = str(scheme(address))
        self._secrets = sorted(_texts(options), key=len, reverse=True)
        self.errors: Errors = (OSError, ValueError, *_classes(STORES[self._scheme].errors))
        self._options = _copied(options)

    def files(self, entry: Dataset, stream: bool) -> Found:
        """What is at the address: a file, the files that a pattern matches, or those of a folder."""
        import fsspec

        system, path = fsspec.core.url_to_fs(self.address, **_copied(self._options))
        system.invalidate_cache()

        def made(infos: Iterable[Mapping[str, Any]], base: str) -> list[tuple[str | None, RemoteFile]]:
            return [(None, self._file(system, info, base, stream)) for info in infos]

        if has_magic(path):
            infos = system.glob(path, detail=True).values()
            base = str(PurePosixPath(*[part for part in PurePosixPath(path).parts if not has_magic(part)]))
            matched = [info for info in _sorted(infos) if info["type"] == "file"]
            if not matched:
                raise FileNotFoundError(self.address)
            return Found(made(matched, base))
        info = system.info(path)
        if info["type"] == "file":
            return Found(made([info], str(PurePosixPath(path).parent)))
        listed = list(_sorted(system.find(path, detail=True).values()))
        saved = any(_inside(one["name"], path) in map(PurePosixPath, _SAVED) for one in listed)
        kept = listed if saved else [one for one in listed if _counts(_inside(one["name"], path), entry)]
        if not kept:
            raise DataError(f"{self.address}: there are no data files in it. Check the address, or set ds_type.")
        return Found(made(kept, path), folder=True, saved=saved)

    def _file(self, system: Any, info: Mapping[str, Any], base: str, stream: bool) -> RemoteFile:
        path = info["name"]
        marks = {name: str(info[name]) for name in _MARKS if info.get(name) is not None}
        marks |= {name: str(info[name]) for name in _MORE_MARKS if len(marks) < 2 and info.get(name) is not None}

        def reader() -> BinaryIO:
            opened: BinaryIO = system.open(path, "rb")
            return opened

        return RemoteFile(
            f"{self._scheme}://{str(path).lstrip('/')}",
            _inside(path, base),
            reader,
            repr(sorted(marks.items())),
            info.get("size"),
            self.errors,
            self.hide,
            stream,
            seeks=True,
        )

    def hide(self, text: str) -> str:
        """A text without the values of the options."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def failure(self, error: Exception) -> DataError:
        """The error for the user."""
        return DataError(f"{self.address}: cannot be read: {self.hide(_said(error))}")


def _inside(path: str, base: str) -> PurePosixPath:
    whole = PurePosixPath(path)
    return whole.relative_to(base) if whole.is_relative_to(base) else PurePosixPath(whole.name)


def _sorted(infos: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(infos, key=lambda info: str(info["name"]))


def _counts(place: PurePosixPath, entry: Dataset) -> bool:
    """Whether a file of a folder holds rows."""
    hidden = any(part.startswith((".", "_")) for part in place.parts)
    return not hidden and is_data_name(place.name, entry)


def _copied(options: Mapping[str, Any]) -> dict[str, Any]:
    """A copy down to the last mapping: file systems change what they are given."""
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in options.items()}


_NOT_SECRET = ("endpoint", "region", "url", "project", "signature_version", "addressing_style", "location")


def _texts(options: Mapping[str, Any]) -> Iterator[str]:
    """Values that may be secrets."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _texts(value)
        elif isinstance(value, str) and len(value) > 3 and not any(word in key for word in _NOT_SECRET):
            yield value


def _classes(names: Iterable[str]) -> Iterator[type[Exception]]:
    """Error classes by their dotted paths; those that are not installed are never raised."""
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            yield getattr(import_module(module), attribute)
        except ImportError:
            continue
