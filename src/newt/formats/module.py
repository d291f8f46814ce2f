"""``type`` as a dotted path: a Python module or function of the user makes the rows.

A function whose name begins with ``load`` is called once, as ``load(tokenizer, cfg, ds_cfg=None, processor=None)``; the
last two only if it takes them. It returns an object with ``tokenize_prompt(row)``, or a function of one row. Any other
function is a function of one row itself. What they make of a row is a mapping with ``input_ids`` and ``labels``, or a
``Conversation``, ``Text`` or ``Tokens`` of ``newt.extend``.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from newt.config.entries import ChatTemplateDataset
from newt.config.section import Config, Problem, Section
from newt.extend import Conversation, Format, FormattedRow, Text, Tokens
from newt.support.errors import DataError, NewtError
from newt.support.files import nearest_name

_RAISED = (ArithmeticError, AttributeError, ImportError, LookupError, NameError, OSError, SyntaxError, TypeError,
           ValueError)  # fmt: skip
"""What code that is being written usually raises. Anything else is shown with its traceback."""


class ModuleDataset(ChatTemplateDataset):
    """Keys of a dataset that a Python module reads: those that such modules are known to use."""

    field: str | None = None
    """Column that holds the text."""
    conversation: str | None = None
    """Style of the conversation, of older configs."""
    logprobs_field: str | None = None
    """Column that holds a teacher's log-probabilities."""
    temperature: float | None = None
    """Temperature of the teacher that wrote them."""

    def check_entry(self, cfg: Config, key: str) -> Iterable[Problem]:
        """The module must be there; it is not run for the check."""
        yield from super().check_entry(cfg, key)
        top = str(self.type).partition(".")[0]
        _look_here()
        if top not in sys.modules and find_spec(top) is None:
            yield cfg.problem(f"{key}.type", f"{self.type}: {_no_module(top)}")


class Module(Format):
    """``type`` is the dotted path of a Python module or function."""

    name = "module"
    Settings = ModuleDataset
    _make: Callable[[Any], Any] | None = None

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """Any dotted path."""
        return isinstance(kind, str) and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", kind) is not None

    def modules(self) -> Sequence[str]:
        """The user's module."""
        return (self._place()[0].__name__,)

    def bind(self, tokenizer: Any) -> None:
        """Import the function, and let ``load`` make the one that reads rows.

        Raises:
            NewtError: there is no such function, or it does not return what it must.
        """
        module, name = self._place()
        found = getattr(module, name, None)
        if not callable(found):
            functions = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
            hint = f" It has: {', '.join(functions)}." if functions else ""
            raise NewtError(f"type {self.entry.type}: {module.__name__} has no function {name}.{hint}")
        self._make = self._loaded(found, tokenizer) if name.startswith("load") else found

    def __call__(self, row: Mapping[str, Any]) -> FormattedRow:
        """What the user's function makes of the row."""
        assert self._make is not None, "bind comes before the first row"
        try:
            made = self._make(dict(row))
        except _RAISED as error:
            raise DataError(f"{self.entry.type} failed: {_told(error)}") from error
        if isinstance(made, Conversation | Text | Tokens):
            return made
        if not isinstance(made, Mapping) or not {"input_ids", "labels"} <= set(made):
            what = f"the keys {', '.join(map(str, made))}" if isinstance(made, Mapping) else repr(made)[:80]
            raise DataError(f"{self.entry.type} must give input_ids and labels, it gave {what}")
        return Tokens(made["input_ids"], made["labels"], reason=f"given by {self.entry.type}")

    def _place(self) -> tuple[ModuleType, str]:
        """The module and the name of its function: the last part of ``type``, or ``load`` where all of it is a module.

        Raises:
            NewtError: there is no such module.
        """
        path = str(self.entry.type)
        _look_here()
        whole = _imported(path, path)
        if whole is not None:
            return whole, "load"
        parent, _, name = path.rpartition(".")
        module = _imported(parent, path)
        if module is None:
            raise NewtError(f"type {path}: {_no_module(parent)}")
        return module, name

    def _loaded(self, load: Callable[..., Any], tokenizer: Any) -> Callable[[Any], Any]:
        path = str(self.entry.type)
        optional = {"ds_cfg": Keys(self.entry), "processor": None}
        try:
            taken = inspect.signature(load).parameters
            everything = any(each.kind is each.VAR_KEYWORD for each in taken.values())
            extra = {name: value for name, value in optional.items() if everything or name in taken}
            strategy = load(tokenizer, Keys(*self.cfg.sections.values()), **extra)
        except _RAISED as error:
            raise NewtError(f"type {path}: it failed: {_told(error)}") from error
        if getattr(strategy, "supports_batched", False):
            raise NewtError(f"type {path}: rows come one at a time. Set supports_batched to False.")
        make = getattr(strategy, "tokenize_prompt", strategy)
        if not callable(make):
            what = "None" if strategy is None else type(strategy).__name__
            must = "load must return a function of one row, or an object with tokenize_prompt"
            raise NewtError(f"type {path}: {must}; it returned {what}.")
        return make  # type: ignore[no-any-return]


class Keys(Mapping[str, Any]):
    """Settings as users' modules read them: ``cfg.sequence_len``, ``cfg["sequence_len"]``, ``cfg.get("sequence_len")``.

    Keys that nobody has are errors, except for ``get``.
    """

    def __init__(self, *sections: Section) -> None:
        self._values = {key: getattr(section, key) for section in sections for key in type(section).model_fields}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["_values"][key]
        except KeyError:
            raise AttributeError(f"there is no key {key!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _look_here() -> None:
    """A console script does not look into the current folder. The entry stays: worker processes must find it too."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _imported(name: str, path: str) -> ModuleType | None:
    """The module, None if there is none of that name.

    Raises:
        NewtError: it cannot be imported.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise NewtError(f"type {path}: its import failed: {error}.") from error
    except _RAISED as error:
        raise NewtError(f"type {path}: its import failed: {_told(error)}.") from error


def _no_module(name: str) -> str:
    near = nearest_name(Path(*name.split(".")).with_suffix(".py"))
    hint = f"Did you mean {near}?" if near else "Install it, or run newt where its file is."
    return f"there is no module {name}. {hint}"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
