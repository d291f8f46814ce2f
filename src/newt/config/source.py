"""Reads a config file into plain values, and remembers where each of them stands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from newt.config.remote import DownloadError, download, is_url
from newt.config.section import Problem, Where

MAX_BYTES = 4_000_000
MAX_NODES = 100_000
"""A config is smaller than this. The limit also stops aliases that expand without end."""
MAX_DEPTH = 60

_TAG = "tag:yaml.org,2002:"
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONVERT = SafeConstructor()


class Loader(_BaseLoader):  # type: ignore[misc]
    """PyYAML's safe loader, but ``1e-5`` is a number, and a date or a lone ``=`` is text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_TAG + "timestamp", _TAG + "value")]
        for first, resolvers in _BaseLoader.yaml_implicit_resolvers.items()
    }


# YAML 1.1, which PyYAML follows, wants a dot and a sign (1.0e-5); everybody writes 1e-5.
Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


@dataclass
class Source:
    """What a file (or a mapping) says.

    Attributes:
        file: its name as messages show it, "" for a mapping.
        path: the file.
        values: the top-level mapping; None when it could not be read at all.
        places: dotted key -> line.
        texts: dotted key -> an unquoted scalar as it was written (``1e-5``, ``no``).
        problems: what is wrong with the file itself.
    """

    file: str = ""
    path: Path | None = None
    values: dict[Any, Any] | None = None
    places: dict[str, Where] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, key: str) -> Where | None:
        """Place of a dotted key, of its nearest parent that was written, or the file."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key.rpartition(".")[0]
        return Where(self.file) if self.file else None

    def forget(self, key: str) -> None:
        """Drop the places and texts of a key and of everything below it."""
        for table in (self.places, self.texts):
            for name in [name for name in table if name == key or name.startswith(key + ".")]:
                del table[name]

    def move(self, old: str, new: str) -> None:
        """Let the places and texts of a key follow its new name."""
        tables: tuple[dict[str, Any], ...] = (self.places, self.texts)
        for table in tables:
            for name in [name for name in table if name == old or name.startswith(old + ".")]:
                table[new + name.removeprefix(old)] = table.pop(name)


def join(*parts: Any) -> str:
    """Join the parts of a dotted key; an empty first part is the top level."""
    return ".".join(str(part) for part in parts if part != "")


def read(source: str | Path | Mapping[str, Any] | Source) -> Source:
    """Read a YAML file, the only YAML file of a folder, a web address, or a mapping. Never raises for bad content.

    What was read already is returned as it is. Problems of a downloaded file name its address; ``path`` is the copy.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, Mapping):
        return _read_mapping(source)
    found = Source(file=str(source))
    try:
        if is_url(source):
            found.path = path = download(str(source))
        else:
            path = _find(Path(source))
            found.path, found.file = path, str(path)
        text = _read_text(path)
    except (_UnreadableError, DownloadError) as problem:
        found.problems.append(Problem((), str(problem), where=Where(found.file)))
        return found
    _parse(text, found)
    return found


def read_text(text: str) -> Source:
    """Read the text of a config."""
    found = Source()
    _parse(text, found)
    return found


def read_value(text: str) -> Any:
    """Read one YAML value in brackets or braces; None if it is not valid."""
    found = Source()
    _parse("value: " + text, found)
    return None if found.problems or found.values is None else found.values["value"]


class _UnreadableError(Exception):
    """The source cannot be read; the message says why."""


def configs_in(folder: Path) -> list[Path]:
    """The YAML files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".yml", ".yaml") and path.is_file())


def _find(path: Path) -> Path:
    try:
        if path.is_dir():
            files = configs_in(path)
            if len(files) == 1:
                return files[0]
            if files:
                raise _UnreadableError(f"holds several configs. Name one: {', '.join(p.name for p in files)}.")
            raise _UnreadableError("holds no .yml or .yaml file.")
        if not path.exists():
            raise _UnreadableError("does not exist.")
    except (OSError, ValueError) as error:
        raise _UnreadableError(f"cannot be read: {_reason(error)}.") from error
    return path


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _UnreadableError(f"cannot be read: {_reason(error)}.") from error
    if len(data) > MAX_BYTES:
        raise _UnreadableError("is too large to be a config.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnreadableError("is not a text file in UTF-8.") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()


def _parse(text: str, found: Source) -> None:
    try:
        if _too_deep(text):
            found.problems.append(Problem((), "is nested too deeply to be a config.", where=Where(found.file)))
            return
        node = Loader(text).get_single_node()
    except yaml.YAMLError as error:
        found.problems.append(_syntax(error, text, found.file))
        return
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"):
        found.problems.append(Problem((), "is empty.", where=Where(found.file)))
        return
    if not isinstance(node, yaml.MappingNode):
        what = "a list" if isinstance(node, yaml.SequenceNode) else "text"
        place = Where(found.file, node.start_mark.line + 1)
        found.problems.append(Problem((), f"a config is a mapping of keys to values, but this is {what}.", where=place))
        return
    try:
        found.values = _Builder(found).mapping(node, "")
    except _UnreadableError as problem:
        found.problems.append(Problem((), str(problem), where=Where(found.file)))


def _too_deep(text: str) -> bool:
    """Whether a text is nested too deeply; PyYAML composes nodes recursively in C, where that ends the process."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            return True
    return False


_BEGUN_EARLIER = ("could not find expected ':'", "found unexpected end of stream")
"""What the parser notices only on a later line than the one that is wrong: a missing colon, an open quote."""


def _syntax(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if getattr(error, "problem", None) in _BEGUN_EARLIER:
        mark = getattr(error, "context_mark", None) or mark
    line = mark.line + 1 if mark else text.count("\n", 0, getattr(error, "position", 0)) + 1
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())]:
        return Problem((), "is indented with a tab, which YAML does not allow. Use spaces.", where=Where(file, line))
    reason = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed")
    return Problem((), f"is not valid YAML: {reason}.", where=Where(file, line))


class _Builder:
    """Turns YAML nodes into values, and notes the line and the text of each."""

    def __init__(self, found: Source) -> None:
        self.found = found
        self.open: set[int] = set()
        self.count = 0

    def value(self, node: yaml.Node, key: str) -> Any:
        self.count += 1
        if self.count > MAX_NODES or len(self.open) > MAX_DEPTH:
            raise _UnreadableError("is too large to be a config.")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, key)
        if id(node) in self.open:
            self.problem(node, key, "refers to itself.")
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, key)
            return [self.item(child, join(key, number)) for number, child in enumerate(node.value)]
        finally:
            self.open.discard(id(node))

    def item(self, node: yaml.Node, key: str) -> Any:
        self.found.places[key] = self.place(node)
        return self.value(node, key)

    def mapping(self, node: yaml.MappingNode, key: str) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: list[yaml.MappingNode] = []
        for name_node, value_node in node.value:
            if name_node.tag == _TAG + "merge":
                merged += self.merged(value_node, key)
                continue
            if not isinstance(name_node, yaml.ScalarNode):
                self.problem(name_node, key, "a list or a mapping cannot be a key.")
                continue
            name = self.constant(name_node, key)
            dotted = join(key, name)
            if name in result:
                first = self.found.places[dotted].line if dotted in self.found.places else 0
                self.problem(name_node, dotted, f"is written twice, first in line {first}.", "Remove one.")
                continue
            self.found.places[dotted] = self.place(name_node)
            result[name] = self.value(value_node, dotted)
        for other in merged:
            self.merge(other, key, result)
        return result

    def merged(self, node: yaml.Node, key: str) -> Iterator[yaml.MappingNode]:
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(one, yaml.MappingNode):
                yield one
            else:
                self.problem(one, join(key, "<<"), "merges something that is not a mapping.")

    def merge(self, node: yaml.MappingNode, key: str, result: dict[Any, Any]) -> None:
        """Add what ``<<`` brings, unless the key is there already (of several merges the first wins)."""
        aside = _Builder(Source(file=self.found.file))
        aside.open, aside.count = self.open, self.count
        found = aside.value(node, key)
        self.count = aside.count
        for name, value in (found or {}).items():
            if name in result:
                continue
            result[name] = value
            dotted = join(key, name)
            for table, other in ((self.found.places, aside.found.places), (self.found.texts, aside.found.texts)):
                for inner in [inner for inner in other if inner == dotted or inner.startswith(dotted + ".")]:
                    table[inner] = other[inner]  # type: ignore[assignment]
        self.found.problems += aside.found.problems

    def scalar(self, node: yaml.ScalarNode, key: str) -> Any:
        value = self.constant(node, key)
        if value is not None and not isinstance(value, str) and not node.style:
            self.found.texts[key] = node.value
        return value

    def constant(self, node: yaml.ScalarNode, key: str) -> Any:
        kind = node.tag.removeprefix(_TAG)
        try:
            if kind in ("str", "merge"):
                return node.value
            if kind == "null":
                return None
            if kind == "bool":
                return SafeConstructor.bool_values[node.value.lower()]
            if kind == "int":
                return _CONVERT.construct_yaml_int(node)
            if kind == "float":
                return _CONVERT.construct_yaml_float(node)
        except (ValueError, KeyError, OverflowError, IndexError):
            self.problem(node, key, f"{node.value[:40]!r} is not a valid {kind}.")
            return None
        self.problem(node, key, f"the YAML tag {node.tag} is not supported.", "Write a plain value.")
        return node.value

    def place(self, node: yaml.Node) -> Where:
        return Where(self.found.file, node.start_mark.line + 1)

    def problem(self, node: yaml.Node, key: str, message: str, hint: str = "") -> None:
        keys = (key,) if key else ()
        self.found.problems.append(Problem(keys, message, hint, self.place(node)))


def _read_mapping(source: Mapping[str, Any]) -> Source:
    found = Source()
    try:
        found.values = _plain(source, 0)
    except _UnreadableError as problem:
        found.problems.append(Problem((), str(problem)))
    return found


def _plain(value: Any, depth: int) -> Any:
    """Copy containers, so that the caller's mapping is never changed; a path becomes text."""
    if depth > MAX_DEPTH:
        raise _UnreadableError("the config is nested too deeply.")
    if isinstance(value, Mapping):
        return {name: _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return os.fspath(value) if isinstance(value, Path) else value
