"""Reads a config: from a YAML file (or a mapping) and overrides to typed sections, with all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError, create_model

from newt.config import messages
from newt.config.core import Dataset
from newt.config.expand import expand_names
from newt.config.names import Names
from newt.config.overrides import apply, parse
from newt.config.pending import ON_BY_DEFAULT, PENDING, PENDING_ENTRY
from newt.config.rename import REMOVED, rename, todays_name
from newt.config.section import Config, Problem, ProblemKind, Section, Where
from newt.config.source import Source, join, read

ENTRY_LISTS = ("datasets", "test_datasets", "pretraining_dataset")
"""Keys whose value is a list of dataset entries."""

EntryType = Callable[[Mapping[str, Any], str, Mapping[str, Any]], "type[Dataset] | Problem | str"]
"""(entry, key of its list, all top-level values as they came) -> the section that reads the entry, or what is wrong
with its ``type``."""

NOT_YET = "is known, but Newt does not support it yet."

Key = tuple[str | int, ...]  # a dotted key in parts


@dataclass
class Loaded:
    """What came of a config.

    Attributes:
        config: what could be read; where a key has a problem it holds the default (a stand-in, if the key is
            required), so checks on such keys mean nothing. None if the source could not be read at all.
        problems: everything that is wrong, in the order of the file.
    """

    config: Config | None
    problems: list[Problem]


def load(
    source: str | Path | Mapping[str, Any] | Source,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    sections: Sequence[type[Section]],
    entry_type: EntryType,
) -> Loaded:
    """Read a config. Whatever is wrong with it comes back as problems; nothing is raised.

    Args:
        source: a YAML file, a folder that holds exactly one, a web address, a mapping, or what ``source.read`` gave
            (which is changed).
        overrides: dotted key -> value (text is read as the key's type asks), or "key=value" strings.
        sections: all sections of top-level keys.
        entry_type: chooses the section of a dataset entry. Its attribute ``others`` (entry key -> names of the
            formats that read it), if it has one, explains keys that belong to another format.
    """
    found = read(source)
    if found.values is None:
        return Loaded(None, found.problems)
    return _Reader(found, sections, entry_type).read(overrides)


def check_sections(cfg: Config, sections: Iterable[type[Section]]) -> Iterator[Problem]:
    """Run each section's own rules."""
    for section in dict.fromkeys(sections):
        yield from cfg[section].check(cfg)


def owners(sections: Iterable[type[Section]]) -> dict[str, type[Section]]:
    """Key -> the section that owns it.

    Raises:
        AssertionError: two sections own one key; a mistake in Newt, not in a config.
    """
    owned: dict[str, type[Section]] = {}
    for section in dict.fromkeys(sections):
        for key in section.model_fields:
            if key in owned:
                raise AssertionError(f"{owned[key].__name__} and {section.__name__} both own the key {key}")
            owned[key] = section
    return owned


def nested_sections(annotation: Any) -> list[type[Section]]:
    """Sections that a field's value is made of: ``SpecialTokens | None``, ``tuple[LrGroup, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, tuple, list) or hasattr(annotation, "__metadata__"):
        return [section for inner in get_args(annotation) for section in nested_sections(inner)]
    return []


class _Reader:
    """One reading of one config."""

    def __init__(self, found: Source, sections: Sequence[type[Section]], entry_type: EntryType) -> None:
        assert found.values is not None
        self.found = found
        self.values = found.values
        self.sections = tuple(dict.fromkeys(sections))
        self.owned = owners(sections)
        self.entry_type = entry_type
        self.others: Mapping[str, tuple[str, ...]] = getattr(entry_type, "others", {})
        self.names = Names(self.owned, self.others, nested_sections)
        self.given: set[str] = set()
        self.spoken: set[str] = set()
        self.reread: set[str] = set()
        self.written = rename(found, self.owned)

    def read(self, overrides: Mapping[str, Any] | Sequence[str]) -> Loaded:
        """Override, then read section by section."""
        self.override(overrides)
        expand_names(self.found, ENTRY_LISTS)
        kept = self.top_level()
        alone = kept.get("pretraining_dataset")
        if isinstance(alone, str | dict):
            kept["pretraining_dataset"] = [{"path": alone} if isinstance(alone, str) else alone]
        self.note_given(kept, ())
        for name in ENTRY_LISTS:
            if isinstance(kept.get(name), list):
                kept[name] = [self.entry(entry, (name, number)) for number, entry in enumerate(kept[name])]
        made = {
            section: self.build(section, {key: kept[key] for key in section.model_fields if key in kept}, ())
            for section in self.sections
        }
        config = Config(made, frozenset(self.given), self.found.places, self.found.path)
        return Loaded(config, sorted(self.found.problems, key=self.order))

    def order(self, problem: Problem) -> tuple[bool, int]:
        """The file from top to bottom, then the command line."""
        where = problem.where or Where(self.found.file)
        return where.file != self.found.file, where.line

    def problem(self, key: Key, message: str, hint: str = "", kind: ProblemKind = "invalid") -> None:
        """Add a problem, under the name that the user wrote."""
        dotted = join(*key)
        older = self.written.get(str(key[0])) if key else None
        keys = (join(older, *key[1:]), dotted) if older else (dotted,)
        self.found.problems.append(Problem(keys, message, hint, self.found.where(dotted), kind))

    def override(self, overrides: Mapping[str, Any] | Sequence[str]) -> None:
        """Put the overrides over the file's values; a strict file takes none that it lacks."""
        strict = self.values.get("strict") is True
        wanted = []
        for one in parse(overrides):
            one = replace(one, parts=todays_name(one.parts, self.owned))
            if strict and one.parts != ("debug",) and not self.has(one.parts):
                message = "is ignored: the file is strict and does not have this key."
                key = join(*one.parts)
                self.found.problems.append(Problem((key,), message, where=one.where, kind="warning"))
            else:
                wanted.append(one)
        self.spoken = apply(wanted, self.found, ENTRY_LISTS)
        for key in self.spoken:
            self.written.pop(key, None)

    def has(self, parts: Sequence[str]) -> bool:
        """Whether the file has a dotted key."""
        return join(*parts) in self.found.places or (not self.found.file and parts[0] in self.values)

    def top_level(self) -> dict[str, Any]:
        """The values of owned keys, without nulls; every other key gets its problem."""
        kept: dict[str, Any] = {}
        for key, value in self.values.items():
            if not isinstance(key, str):
                self.problem((key,), "a key must be text.")
            elif key in self.owned:
                if value is not None:
                    kept[key] = self.clean(value, self.owned[key].model_fields[key].annotation, (key,))
            elif key in REMOVED:
                if value is not None and value is not False:
                    self.problem((key,), REMOVED[key])
            elif key in PENDING:
                if not _asks_nothing(key, value):
                    self.problem((key,), NOT_YET, kind="unsupported")
            else:
                self.problem((key,), "unknown key.", self.names.hint(key, "top"))
        return kept

    def clean(self, value: Any, annotation: Any, key: Key) -> Any:
        """Remove nulls and unknown keys from nested sections; other values stay as they are."""
        nested = nested_sections(annotation)
        if not nested or any(issubclass(section, Dataset) for section in nested):
            return value
        if isinstance(value, list):
            return [self.clean(item, annotation, (*key, number)) for number, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        fields = {name: field for section in nested for name, field in section.model_fields.items()}
        kept: dict[str, Any] = {}
        for name, item in value.items():
            if not isinstance(name, str):
                self.problem((*key, name), "a key must be text.")
            elif name not in fields:
                self.problem((*key, name), "unknown key.", self.names.hint(name, "block", fields))
            elif item is not None:
                kept[name] = self.clean(item, fields[name].annotation, (*key, name))
        return kept

    def entry(self, raw: Any, key: Key) -> Dataset:
        """Read one dataset entry with the section of its format."""
        if not isinstance(raw, dict):
            self.problem(key, f"must be a mapping with path and type, got {messages.show(raw)}.")
            return Dataset.model_construct(path="")
        given = {name: item for name, item in raw.items() if item is not None}
        answer = self.entry_type(given, str(key[0]), self.values)
        if isinstance(answer, str):
            self.problem((*key, "type"), answer)
        elif isinstance(answer, Problem):
            self.problem((*key, "type"), answer.message, answer.hint, answer.kind)
        section = answer if isinstance(answer, type) else None
        fields = (section or Dataset).model_fields
        kept: dict[str, Any] = {}
        for name, item in raw.items():
            if name in fields:
                if item is not None:
                    kept[name] = self.clean(item, fields[name].annotation, (*key, name))
            elif not isinstance(name, str):
                self.problem((*key, name), "a key must be text.")
            else:
                self.foreign_entry_key(name, item, key, section, raw.get("type"))
        made: Dataset = self.build(section or Dataset, kept, key)
        return made

    def foreign_entry_key(self, name: str, item: Any, key: Key, section: type[Dataset] | None, kind: Any) -> None:
        """Say why an entry does not take a key: another format's, not done yet, or unknown."""
        if name in self.others:
            if section is not None and item is not None:
                called = kind if isinstance(kind, str) else "like this"
                formats = " and ".join(self.others[name])
                message = f"has no effect with type {called}: it belongs to {formats}."
                self.problem((*key, name), message, "Remove it, or change type.")
        elif name in PENDING_ENTRY:
            if not _asks_nothing(name, item):
                self.problem((*key, name), NOT_YET, kind="unsupported")
        else:
            self.problem(
                (*key, name), "unknown key.", self.names.hint(name, "entry", (section or Dataset).model_fields)
            )

    def note_given(self, value: Any, key: Key) -> None:
        """Remember every key that has a value."""
        if value is None:
            return
        if key:
            self.given.add(join(*key))
        if isinstance(value, dict | list):
            for name, item in value.items() if isinstance(value, dict) else enumerate(value):
                self.note_given(item, (*key, name))

    def build(self, section: type[Any], values: dict[str, Any], key: Key) -> Any:
        """Make a section from the values that fit; each of the others gets a problem."""
        if not values and not any(field.is_required() for field in section.model_fields.values()):
            return section.model_construct()
        model = section
        while True:
            try:
                made = model.model_validate(values)
            except ValidationError as error:
                errors: list[Any] = error.errors(include_url=False)
                if self.read_again(errors, values, key):
                    continue
                bad = messages.explain(errors, values)
            else:
                bad = dict(messages.swapped(values, made))
                if not bad:
                    return made
            self.report(bad, values, key, section)
            if () in bad:
                return model.model_construct(**values)
            names = [str(path[0]) for path in bad]
            for name in names:
                values.pop(name, None)
            model = _without_required(model, [name for name in names if model.model_fields[name].is_required()])

    def read_again(self, errors: Iterable[Mapping[str, Any]], values: dict[str, Any], key: Key) -> bool:
        """Take a value as the text that was written, where text fits: ``name: 2024``, ``eval_strategy: no``."""
        changed = 0
        located = [(messages.locate(error["loc"], values), error) for error in errors]
        for path, error in sorted(located, key=lambda one: -len(one[0])):
            dotted = join(*key, *path)
            text = self.text(error, dotted)
            if text is not None and dotted not in self.reread and len(path) >= changed:
                self.reread.add(dotted)
                _put(values, path, text)
                changed = len(path)
        return bool(changed)

    def text(self, error: Mapping[str, Any], dotted: str) -> str | None:
        """What to read instead of a value that did not fit, or None."""
        written, value, kind = self.found.texts.get(dotted), error["input"], error["type"]
        if isinstance(value, str) or kind not in ("string_type", "literal_error"):
            return None
        if dotted in self.spoken:
            return written
        if isinstance(value, bool):
            return written if kind == "literal_error" else None
        if isinstance(value, int | float) and kind == "string_type":
            return written if written is not None else messages.show(value)
        return None

    def report(self, bad: Mapping[Key, str], values: Any, key: Key, section: type[Section]) -> None:
        """Add the problems of a section's values."""
        for path, text in bad.items():
            hint = ""
            if join(*key, *path) in self.spoken and _value(values, path) is True:
                text = f"needs a value: it {text.replace(', got true', '')}"
            if text == "is missing.":
                hint = _what_it_is(section, path)
            self.problem((*key, *path), text, hint)


def _asks_nothing(key: str, value: Any) -> bool:
    """Whether a key that Newt does not read asks for what happens anyway."""
    return value is None or value in ([], {}) or (value is False and key not in ON_BY_DEFAULT)


def _value(values: Any, path: Key) -> Any:
    return reduce(lambda inner, part: inner.get(part) if isinstance(inner, dict) else inner[int(part)], path, values)


def _put(values: Any, path: Key, value: Any) -> None:
    for part in path[:-1]:
        values = values[part]
    values[path[-1]] = value


def _without_required(model: type[Any], names: Sequence[str]) -> type[Any]:
    """A section whose required keys have a stand-in, so that the rest of the config can be checked."""
    if not names:
        return model
    blanks = {str: "", int: 1, float: 1.0}
    fields: dict[str, Any] = {name: (Any, blanks.get(model.model_fields[name].annotation)) for name in names}
    return create_model(model.__name__, __base__=model, **fields)


def _what_it_is(section: type[Section], path: Key) -> str:
    from newt.config.schema import field_docs

    return field_docs(section).get(str(path[0]), "") if len(path) == 1 else ""
