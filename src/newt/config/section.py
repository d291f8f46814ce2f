"""What a configuration is made of: sections, problems, and the config that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from newt.support.errors import NewtError, UnsupportedError

ProblemKind = Literal["invalid", "unsupported", "warning"]


def flag_of(key: str) -> str:
    """How a dotted key is written on the command line: ``--lora-r``."""
    return "--" + key.replace("_", "-")


@dataclass(frozen=True, order=True)
class Where:
    """A place in a config file, or ``--key`` on the command line (line 0)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config, in one line.

    Attributes:
        keys: dotted YAML keys, the first is where the user should look (``datasets.0.type``).
        message: what is wrong.
        hint: what to do.
        kind: ``invalid``; ``unsupported`` (a known key that Newt does not do yet); ``warning`` (does not stop a run).
    """

    keys: tuple[str, ...]
    message: str
    hint: str = ""
    where: Where | None = None
    kind: ProblemKind = "invalid"

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        said = self.where and self.keys and self.where.file == flag_of(self.keys[0])
        key = f"{self.keys[0]}: " if self.keys and not said else ""
        text = f"{place}{key}{self.message}" + (f" {self.hint}" if self.hint else "")
        return " ".join(text.splitlines())


class ConfigError(NewtError):
    """A config that cannot be used, with all its problems."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        if self.problems and all(problem.kind == "unsupported" for problem in self.problems):
            self.exit_code = UnsupportedError.exit_code
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Section(BaseModel):
    """Some YAML keys that belong together: frozen, and every field name is a YAML key.

    The string below a field is its documentation (schema, docs page and ``--help`` are made from it).

    Class attributes:
        coming: keys that are declared and checked, and whose behaviour is not built yet: a value that asks for
            something is answered with "not supported yet". ``{"*"}``: all of them.
    """

    coming: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        arbitrary_types_allowed=False,
        validate_default=False,
        allow_inf_nan=False,
        # A command needs validators only for the sections that the config names.
        defer_build=True,
    )

    @classmethod
    def is_coming(cls, key: str) -> bool:
        """Whether a key is declared, but not built yet."""
        return key in cls.coming or "*" in cls.coming

    def check(self, cfg: Config) -> Iterable[Problem]:
        """Rules between this section's keys, or between them and core sections. No I/O, no machine facts."""
        return ()


S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Config:
    """A validated config: ``cfg[Lora].lora_r`` is typed, and the file that it came from is known.

    Attributes:
        sections: one instance of every section.
        given: dotted keys that the user wrote, such as ``datasets.0.type``; null counts as absent.
        places: where each dotted key of ``given`` stands.
        source: the YAML file, or None for a mapping.
    """

    sections: Mapping[type[Section], Section]
    given: frozenset[str] = frozenset()
    places: Mapping[str, Where] = field(default_factory=dict)
    source: Path | None = None

    def __getitem__(self, section: type[S]) -> S:
        found = self.sections[section]
        assert isinstance(found, section)
        return found

    def value(self, key: str) -> Any:
        """Value of a top-level key, whichever section owns it; None where none does.

        For rules between Parts, which do not import each other; behaviour reads typed sections.
        """
        return next((getattr(found, key) for found in self.sections.values() if key in type(found).model_fields), None)

    def where(self, key: str) -> Where | None:
        """The place of a dotted key, or of its nearest parent that was written."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key.rpartition(".")[0]
        return None

    def problem(
        self, keys: str | tuple[str, ...], message: str, hint: str = "", kind: ProblemKind = "invalid"
    ) -> Problem:
        """A problem at the place of its first key, or of the first that the user wrote, or of the file."""
        names = (keys,) if isinstance(keys, str) else keys
        file = Where(str(self.source)) if self.source else None
        place = next((found for found in map(self.where, names) if found), file)
        return Problem(names, message, hint, place, kind)

    def to_dict(self) -> dict[str, Any]:
        """Every key with its resolved value, sorted, JSON-ready."""
        merged: dict[str, Any] = {}
        for section in self.sections.values():
            merged.update(section.model_dump(mode="json", serialize_as_any=True))
        return dict(sorted(merged.items()))
