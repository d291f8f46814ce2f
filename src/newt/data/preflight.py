"""What can be said about a dataset before anything heavy is imported: where it is, and whether it can be read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from glob import has_magic
from pathlib import Path
from typing import BinaryIO

from newt.config.core import Dataset
from newt.config.section import Config, Problem
from newt.data.addresses import WEB, address_problems, scheme
from newt.support.files import nearest_name

FILE_TYPES = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
}
"""Suffix -> type of a data file."""
COMPRESSED = (".gz", ".zst")
"""Suffixes that may follow those of text files."""

_READERS = frozenset(FILE_TYPES.values())
_NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_NAME = re.compile(r"[\w-]+")
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


def suffix(path: Path) -> str:
    """Suffix of a data file without the one of its compression, in lower case."""
    name = path.name.lower()
    for compressed in COMPRESSED:
        name = name.removesuffix(compressed)
    return Path(name).suffix


def file_type(path: Path, entry: Dataset) -> str | None:
    """Type of a data file: ``ds_type``, else what its suffix says, else None."""
    return entry.ds_type or FILE_TYPES.get(suffix(path)) or (entry.path if reader_name(entry) else None)


def reader_name(entry: Dataset) -> bool:
    """Whether ``path`` is the name of a file type (``path: json`` with ``data_files``) rather than a place."""
    return entry.data_files is not None and entry.path in _READERS and not Path(entry.path).exists()


def wanted_files(entry: Dataset) -> list[tuple[str | None, str]] | None:
    """What ``data_files`` names: (split, if it says one; file or pattern). None without ``data_files``."""
    named = entry.data_files
    if named is None:
        return None
    by_split = named if isinstance(named, Mapping) else {None: named}
    return [(split, name) for split, names in by_split.items() for name in _several(names)]


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def addresses(entry: Dataset) -> list[str]:
    """Addresses that the entry names: its path, or, where that is a file type or an address, what is in data_files."""
    named = [name for _, name in wanted_files(entry) or () if scheme(name)]
    return ([entry.path] if scheme(entry.path) else []) + (named if scheme(entry.path) or reader_name(entry) else [])


def is_address(entry: Dataset) -> bool:
    """Whether the rows come over the network by an address of their own."""
    return bool(addresses(entry))


def is_local(entry: Dataset) -> bool:
    """Whether the rows are in files of this machine."""
    return not is_address(entry) and (reader_name(entry) or bool(_matches(entry.path)))


def _matches(path: str) -> list[Path]:
    """The file or folder of a path, or the files that it matches as a pattern."""
    place = Path(path).expanduser()
    if place.exists():
        return [place]
    return [found for found in _expand(Path(), path) if found.is_file()] if has_magic(path) else []


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def has_dataset_card(folder: Path) -> bool:
    """Whether a folder says by itself which files make which split (``configs`` in the header of README.md)."""
    card = folder / "README.md"
    if not card.is_file():
        return False
    with card.open(encoding="utf-8", errors="replace") as file:
        head = file.read(1 << 16).split("\n---", 1)
    return head[0].startswith("---") and re.search(r"^configs:", head[0], re.MULTILINE) is not None


def local_files(entry: Dataset) -> list[Path]:
    """Data files of a local entry, in reading order; names of ``data_files`` that match nothing are kept."""
    return [path for _, path in split_files(entry)]


def split_files(entry: Dataset, folder: Path | None = None) -> list[tuple[str | None, Path]]:
    """The same, with the split that ``data_files`` says; ``folder`` takes the place of ``path``."""
    base = folder or (Path() if reader_name(entry) else Path(entry.path).expanduser())
    wanted = wanted_files(entry)
    if wanted is not None:
        start = base if base.is_dir() else base.parent
        return [(split, path) for split, name in wanted for path in _expand(start, name)]
    if base.is_dir():
        return [(None, path) for path in _walk(base) if is_data_name(path.name, entry)]
    return [(None, path) for path in _matches(entry.path)]


def _expand(folder: Path, name: str) -> list[Path]:
    path = folder / Path(name).expanduser()
    if not has_magic(name) or path.is_file():
        return [path]
    root = Path(path.anchor) if path.is_absolute() else Path()
    return sorted(root.glob(str(path.relative_to(root)))) or [path]


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        yield from (Path(root) / name for name in sorted(names) if not name.startswith((".", "_")))


def is_data_name(name: str, entry: Dataset) -> bool:
    """Whether a file of a folder holds rows, as its name says."""
    found = FILE_TYPES.get(suffix(Path(name)))
    return found is not None and name not in _NOT_DATA and entry.ds_type in (None, found)


def split_name(path: Path, folder: Path) -> str | None:
    """The split that a file's name or its folder's name tells, such as test for ``data/test-00000.parquet``."""
    parts = path.relative_to(folder).parts if path.is_relative_to(folder) else path.parts
    for part in reversed(parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLIT_WORDS:
                return _SPLIT_WORDS[word]
    return None


# --------------------------------------------------------------------------- problems


def problems(entry: Dataset, key: str, cfg: Config) -> list[Problem]:
    """Why the rows of an entry cannot be read, without reading them.

    Args:
        entry: the dataset entry.
        key: its dotted key, such as ``datasets.0``.
        cfg: gives the places in the YAML file.
    """
    if not entry.reads_path:
        return []
    named = addresses(entry)
    if named:
        return address_problems(entry, named, key, cfg) + _split_problems(entry, key, cfg)
    if entry.storage_options is not None:
        message = "has no effect: path is not an address such as s3://bucket/rows.jsonl."
        return [cfg.problem(f"{key}.storage_options", message, "Remove it.")]
    if not is_local(entry):
        return _not_here(entry, f"{key}.path", cfg)
    base = Path(entry.path).expanduser()
    if entry.data_files is None and base.is_dir():
        return _folder_problems(entry, base, f"{key}.path", cfg)
    where = f"{key}.path" if entry.data_files is None else f"{key}.data_files"
    found = [problem for path in local_files(entry) for problem in _file_problems(entry, path, where, cfg)]
    return found + _split_problems(entry, key, cfg)


def _not_here(entry: Dataset, key: str, cfg: Config) -> list[Problem]:
    path = Path(entry.path)
    in_a_folder = len(path.parts) > 1 and path.parent.is_dir()
    looks_like_file = bool(FILE_TYPES.get(suffix(path))) or path.is_absolute() or entry.path.startswith((".", "~"))
    if not looks_like_file and not in_a_folder and _HUB_ID.fullmatch(entry.path):
        return []
    near = nearest_name(path.expanduser())
    hint = f"Did you mean {near}?" if near else "Check the path; a dataset of the Hub is written org/name."
    if not looks_like_file and not near and _HUB_NAME.fullmatch(entry.path):
        message = f"there is no file or folder {entry.path}: it will be looked for on the Hub."
        return [cfg.problem(key, message, "Write it as org/name.", "warning")]
    if looks_like_file or in_a_folder or near:
        return [cfg.problem(key, f"there is no file or folder {entry.path}.", hint)]
    return [cfg.problem(key, f"{entry.path} is neither a path nor a dataset of the Hub (org/name).", hint)]


def _folder_problems(entry: Dataset, folder: Path, key: str, cfg: Config) -> list[Problem]:
    if is_saved(folder) or has_dataset_card(folder):
        return []
    if not os.access(folder, os.R_OK | os.X_OK):
        return [cfg.problem(key, f"the folder {folder} cannot be read.", "Check its permissions.")]
    files = local_files(entry)
    types = sorted({str(file_type(path, entry)) for path in files})
    if not files:
        known = ", ".join(FILE_TYPES)
        return [cfg.problem(key, f"there are no data files in {folder}.", f"Newt reads {known}.")]
    if len(types) > 1:
        hint = "Name the files in data_files, or set ds_type."
        return [cfg.problem(key, f"the folder {folder} holds several types of files ({', '.join(types)}).", hint)]
    return [problem for path in files for problem in _file_problems(entry, path, key, cfg)]


def _file_problems(entry: Dataset, path: Path, key: str, cfg: Config) -> list[Problem]:
    if not path.is_file():
        near = nearest_name(path)
        hint = f"Did you mean {near}?" if near else "Check the name."
        return [cfg.problem(key, f"there is no file {path}.", hint)]
    if not os.access(path, os.R_OK):
        return [cfg.problem(key, f"{path} cannot be read.", "Check its permissions.")]
    if file_type(path, entry) is None:
        known = ", ".join(FILE_TYPES)
        return [cfg.problem(key, f"{path.name} has an unknown file type.", f"Set ds_type, or use one of {known}.")]
    if path.stat().st_size == 0:
        return [cfg.problem(key, f"{path} is empty.", "Remove it, or put rows into it.")]
    return []


def _split_problems(entry: Dataset, key: str, cfg: Config) -> list[Problem]:
    """Files have one split, unless ``data_files`` says more; what a folder behind an address has is not known yet."""
    wanted = entry.split and re.split(r"[\[+]", entry.split)[0]
    if isinstance(entry.data_files, Mapping):
        known = ", ".join(entry.data_files)
        if wanted is None or wanted in entry.data_files:
            return []
        return [cfg.problem(f"{key}.split", f"{wanted} does not exist: data_files has {known}.", "Correct split.")]
    in_a_folder = scheme(entry.path) not in (None, *WEB) and entry.data_files is None and not suffix(Path(entry.path))
    if wanted is None or wanted == "train" or in_a_folder:
        return []
    message = f"{entry.split} does not exist: files have one split, train."
    return [cfg.problem(f"{key}.split", message, "Remove it, or write train with a slice such as train[:500].")]


# --------------------------------------------------------------------------- columns


def first_columns(entry: Dataset) -> list[str] | None:
    """Column names of the first row of a local json, csv or text file; None when they cannot be told cheaply."""
    if not is_local(entry):
        return None
    base = Path(entry.path).expanduser()
    if entry.data_files is None and base.is_dir() and (is_saved(base) or has_dataset_card(base)):
        return None
    for path in local_files(entry)[:1]:
        try:
            return _columns(path, file_type(path, entry))
        except (OSError, ValueError, EOFError, csv.Error):
            return None
    return None


def _columns(path: Path, kind: str | None) -> list[str] | None:
    if kind == "text":
        return ["text"]
    if kind not in ("json", "csv") or path.suffix.lower() == ".zst":
        return None
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        if kind == "csv":
            delimiter = "\t" if suffix(path) == ".tsv" else ","
            return next(csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=delimiter), None)
        row = _first_json_row(file)
    return list(row) if isinstance(row, dict) else None


def _first_json_row(file: BinaryIO | gzip.GzipFile) -> object:
    text = io.TextIOWrapper(file, "utf-8-sig")
    head = text.readline()
    while head and not head.strip():
        head = text.readline()
    head = head.lstrip()
    if not head.startswith("["):
        return json.loads(head)
    while True:
        try:
            return json.JSONDecoder().raw_decode(head[1:].lstrip())[0]
        except json.JSONDecodeError:
            more = text.read(1 << 16)
            if not more:
                raise
            head += more
