"""Addresses of rows: object stores and the web. What can be said about them before anything is fetched."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from newt.config.core import Dataset
from newt.config.remote import DownloadError, check_scheme
from newt.config.section import Config, Problem

WEB = ("https", "http")


@dataclass(frozen=True)
class Store:
    """A kind of object store.

    Attributes:
        package: the fsspec package that reads it.
        extra: the extra of ours that installs it; "" where it is always there.
        errors: what else than ``OSError`` the package raises when something is wrong outside of it.
    """

    package: str
    extra: str
    errors: tuple[str, ...] = ()


_S3 = Store("s3fs", "s3", ("botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError"))
_GCS = Store("gcsfs", "gcs", ("gcsfs.retry.HttpError", "google.auth.exceptions.GoogleAuthError"))
_AZURE = Store("adlfs", "azure", ("azure.core.exceptions.AzureError",))
STORES = {
    "s3": _S3,
    "gs": _GCS,
    "gcs": _GCS,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "adl": _AZURE,
    "oci": Store("ocifs", "oci", ("oci.exceptions.ServiceError", "oci.exceptions.ClientError")),
    "hf": Store("huggingface_hub", "", ("huggingface_hub.errors.HTTPError",)),
}
"""Scheme -> what reads it."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_COMMON_OPTIONS = frozenset(
    {
        *("skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths"),
        *("asynchronous", "loop", "batch_size"),
    }
)
"""Arguments of every file system of fsspec."""


def scheme(path: str) -> str | None:
    """Scheme of an address in lower case, None of a path."""
    found = _SCHEME.match(path)
    return found[1].lower() if found else None


def shown(address: str) -> str:
    """An address as messages show it: without a password, and without what stands behind ``?``, which may be a key."""
    if scheme(address) not in WEB:
        return address
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def address_problems(entry: Dataset, addresses: Iterable[str], key: str, cfg: Config) -> list[Problem]:
    """Why the addresses of an entry cannot be read, without asking anybody for them.

    Args:
        entry: the dataset entry.
        addresses: all that it names.
        key: its dotted key, such as ``datasets.0``.
        cfg: gives the places in the YAML file.
    """
    found = [problem for address in addresses for problem in _address_problem(address, f"{key}.path", cfg)]
    if found:
        return found[:1]
    schemes = {str(scheme(address)) for address in addresses}
    if entry.storage_options is None:
        return []
    if schemes & set(WEB):
        message = "has no effect: files of the web are read without."
        return [cfg.problem(f"{key}.storage_options", message, "Remove it.")]
    return [problem for name in sorted(schemes) for problem in _option_problems(entry, name, key, cfg)]


def _address_problem(address: str, key: str, cfg: Config) -> list[Problem]:
    name = str(scheme(address))
    if name in WEB:
        try:
            check_scheme(address)
        except DownloadError as error:
            return [cfg.problem(key, f"{shown(address)} {error}")]
        if "@" in urlsplit(address).netloc:
            return [cfg.problem(key, "an address with a user name or a password cannot be read.", "Remove it.")]
        return []
    if name not in STORES:
        return [cfg.problem(key, f"{name}:// is not an address that can be read.", _scheme_hint(name))]
    store = STORES[name]
    if find_spec(store.package) is None:
        message = f"{name}:// needs the package {store.package!r}:"
        return [cfg.problem(key, message, f"pip install 'newt-tune[{store.extra}]'")]
    if not address[len(name) + len("://") :].strip("/"):
        return [cfg.problem(key, f"{address} names no bucket.", f"Write {name}://bucket/path.")]
    return []


def _scheme_hint(name: str) -> str:
    if name == "file":
        return "Write the path without file://."
    near = get_close_matches(name, [*STORES, "https"], n=1, cutoff=0.5)
    known = ", ".join(f"{one}://" for one in ("https", *STORES))
    return (f"Did you mean {near[0]}://? " if near else "") + f"Newt reads {known}."


def _option_problems(entry: Dataset, name: str, key: str, cfg: Config) -> list[Problem]:
    """Names that the file system does not know: it would ignore most of them without a word."""
    known = _options(name)
    problems = []
    for option in entry.storage_options or {}:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"It knows {', '.join(sorted(known - _COMMON_OPTIONS))}."
            message = f"{option} is no option of {STORES[name].package}."
            problems.append(cfg.problem(f"{key}.storage_options", message, hint))
    return problems


def _options(name: str) -> frozenset[str]:
    """Names of the arguments of a file system."""
    from fsspec import get_filesystem_class  # only configs with such an address need it

    found = set(_COMMON_OPTIONS)
    for cls in get_filesystem_class(name).__mro__:
        own = vars(cls).get("__init__")
        if own is not None and cls.__module__.partition(".")[0] != "fsspec":
            parameters = list(inspect.signature(own).parameters.values())[1:]
            found |= {one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    return frozenset(found - {"args", "kwargs"})
