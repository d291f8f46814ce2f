"""Prompts of single instructions: the four prompt styles, and rows whose columns fill one. Free of torch and numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from newt.config.core import Data, Dataset
from newt.config.section import Config
from newt.data.messages import list_of_objects
from newt.extend import Format, Segment, Text
from newt.rows import filled
from newt.support.errors import DataError

Row = Mapping[str, Any]

EMPTY_PROMPT = "empty prompt: the row is the response alone"
EMPTY_RESPONSE = "empty response: only the end token is trained"


# --------------------------------------------------------------------------- columns


def text_of(row: Row, column: str) -> str:
    """The text in a column.

    Raises:
        DataError: there is none, or it is no text.
    """
    value = row.get(column)
    if value is None:
        raise DataError(f"{column} is missing; the row has: {', '.join(map(str, row)) or 'nothing'}")
    if not isinstance(value, str):
        raise DataError(f"{column} must be a text, it is {value!r}")
    return value


def objects_of(row: Row, column: str) -> list[dict[str, Any]]:
    """The list of objects in a column.

    Raises:
        DataError: there is none, or it is something else.
    """
    if row.get(column) is None:
        raise DataError(f"{column} is missing; the row has: {', '.join(map(str, row)) or 'nothing'}")
    return list_of_objects(row[column], column)


def text_or_nothing(row: Row, column: str) -> str:
    """The text in a column, "" where the row has none."""
    return "" if row.get(column) is None else text_of(row, column)


# --------------------------------------------------------------------------- prompts


class Single(NamedTuple):
    """The parts of an instruction."""

    instruction: str
    response: str
    context: str = ""
    system: str = ""


@dataclass(frozen=True)
class Style:
    """How the parts of an instruction are written: patterns with ``{system}``, ``{instruction}`` and ``{input}``."""

    system: str
    with_input: str
    without_input: str

    def prompt(self, single: Single, train: bool) -> Segment:
        """The prompt, up to where the response begins. Without a system text its pattern is left out."""
        turn = self.with_input if single.context else self.without_input
        pattern = self.system + turn if single.system else turn
        text, fields = filled(pattern, system=single.system, instruction=single.instruction, input=single.context)
        return Segment(text, train, "prompt", fields)


INSTRUCT = Style(
    "{system}\n\n",
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
    "### Instruction:\n{instruction}\n\n### Response:\n",
)
CHAT = Style(
    "SYSTEM: {system}\n",
    "USER: {instruction}\n{input}\nASSISTANT:",
    "USER: {instruction}\nASSISTANT:",
)
CHATML = Style(
    "<|im_start|>system\n{system}<|im_end|>\n",
    "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n",
)
PHI = Style(
    "<|system|>\n{system}<|end|>\n",
    "<|user|>\n{instruction}<|end|>{input}<|assistant|>",
    "<|user|>\n{instruction}<|end|>\n<|assistant|>\n",
)
RAW = Style("{system}", "{instruction}{input}", "{instruction}")
"""Nothing but the texts."""

STYLES: Mapping[str, Style] = {"instruct": INSTRUCT, "chat": CHAT, "chatml": CHATML, "phi": PHI}
"""The styles that ``type: name:style`` can ask for."""


def row_text(prompt: Segment, response: Segment, *, joined: bool = False) -> Text:
    """A prompt and its response, tokenized apart unless ``joined``; an empty one is noted.

    An empty prompt is nothing, not a beginning token alone: whoever asks for one writes the whole row.
    """
    notes = [EMPTY_PROMPT] * (not prompt.text) + [EMPTY_RESPONSE] * (not response.text)
    segments = (prompt, response) if prompt.text else (response,)
    return Text(segments, bos=bool(prompt.text), joined=joined, notes=notes)


# --------------------------------------------------------------------------- layouts


@dataclass(frozen=True)
class Layout:
    """Where the parts of an instruction stand in a row, and how the prompt is written.

    Attributes:
        read: takes the parts from a row.
        columns: columns that a row must have.
        style: of the prompt.
        system: system text of rows with an input; a row's own wins.
        system_without_input: the same of rows without an input. None: ``system``.
    """

    read: Callable[[Row], Single]
    columns: Sequence[str]
    style: Style = INSTRUCT
    system: str = ""
    system_without_input: str | None = None

    def row(self, row: Row, train_on_inputs: bool) -> Text:
        """Prompt and response of a row."""
        found = self.read(row)
        without = self.system if self.system_without_input is None else self.system_without_input
        single = found._replace(system=found.system or (self.system if found.context else without))
        return row_text(self.style.prompt(single, train_on_inputs), Segment(found.response, True, "response"))


def from_columns(instruction: str, response: str, *, context: str = "", system: str = "") -> Callable[[Row], Single]:
    """A reader of the named columns; those of the context and the system text may be missing in a row."""

    def read(row: Row) -> Single:
        return Single(
            text_of(row, instruction),
            text_of(row, response),
            text_or_nothing(row, context) if context else "",
            text_or_nothing(row, system) if system else "",
        )

    return read


def styled(layouts: Iterable[str]) -> tuple[str, ...]:
    """The names that ask for a style: ``name:style``."""
    return tuple(f"{name}:{style}" for name in layouts for style in STYLES)


class Instructions(Format):
    """Base of the formats that read single instructions.

    Class attributes:
        layouts: value of ``type`` -> the layout.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {}

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        super().__init__(entry, cfg)
        name, _, style = str(entry.type).partition(":")
        layout = self.layouts[name]
        self.layout = replace(layout, style=STYLES[style]) if style else layout
        self._train_on_inputs = cfg[Data].train_on_inputs

    def columns(self) -> Sequence[str]:
        """Those that the layout needs."""
        return self.layout.columns

    def __call__(self, row: Row) -> Text:
        """The prompt, and the response as a segment of its own."""
        return self.layout.row(row, self._train_on_inputs)
