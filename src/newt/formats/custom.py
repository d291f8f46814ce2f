"""``type`` as a mapping: the config says which columns make an instruction, and how its prompt is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

from newt.config.core import Data, Dataset
from newt.config.section import Config, Problem, Section
from newt.data.instructions import Single, Style, row_text, text_of, text_or_nothing
from newt.extend import Format, Segment, Text


class InstructionType(Section):
    """``type`` of an entry as a mapping: columns and prompt of single instructions."""

    system_prompt: str | None = None
    """System text of rows that have none."""
    system_format: str = "{system}"
    """How the system text is written."""
    field_system: str = "system"
    """Column of the system text."""
    field_instruction: str = "instruction"
    """Column of the instruction."""
    field_input: str = "input"
    """Column of the input."""
    field_output: str = "output"
    """Column of the response."""
    format: str | None = None
    """Prompt, such as ``"[INST] {instruction} {input} [/INST]"``. Default: ``"{instruction} {input} "``."""
    no_input_format: str | None = None
    """Prompt of rows without input. Default: ``"{instruction} "``."""
    field: str | None = None
    """Of older configs; nothing reads it."""

    def style(self) -> Style:
        """The prompt patterns."""
        with_input = "{instruction} {input} " if self.format is None else self.format
        without = "{instruction} " if self.no_input_format is None else self.no_input_format
        return Style(self.system_format, with_input, without)


_PLACES = {"system_format": ("system",), "format": ("instruction", "input"), "no_input_format": ("instruction",)}
"""Pattern -> what it may stand for."""


class CustomDataset(Dataset):
    """Keys of a dataset whose layout the config describes."""

    type: InstructionType | None = None  # type: ignore[assignment]  # narrower than any format's
    """Columns and prompt."""

    def check_entry(self, cfg: Config, key: str) -> Iterable[Problem]:
        """The patterns must name what there is."""
        yield from super().check_entry(cfg, key)
        kind = self.type or InstructionType()
        for name, places in _PLACES.items():
            wrong = _wrong_pattern(getattr(kind, name) or "", places)
            if wrong:
                hint = "Write a brace that is text twice: {{ or }}."
                yield cfg.problem(f"{key}.type.{name}", wrong, hint)
        if kind.format is not None and kind.no_input_format is None:
            message = 'is not set: rows without input are written as "{instruction} ".'
            yield cfg.problem(f"{key}.type.no_input_format", message, "Set it to fit format.", "warning")
        if kind.field is not None:
            yield cfg.problem(f"{key}.type.field", "has no effect.", "Use field_output and no_input_format.", "warning")


def _wrong_pattern(pattern: str, places: Sequence[str]) -> str:
    """What is wrong with a pattern, or ""."""
    known = " and ".join(f"{{{place}}}" for place in places)
    try:
        found = [
            (name, spec, conversion) for _, name, spec, conversion in Formatter().parse(pattern) if name is not None
        ]
    except ValueError as error:
        return f"is not a pattern: {error}."
    for name, spec, conversion in found:
        if name not in places or spec or conversion:
            return f"{{{name}}} stands for nothing here, only {known}."
    return ""


class Custom(Format):
    """Instruction, input, system text and response in columns that the config names."""

    name = "custom"
    Settings = CustomDataset

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """Any mapping."""
        return isinstance(kind, dict | InstructionType)

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        super().__init__(entry, cfg)
        assert isinstance(entry, CustomDataset)
        self._kind = entry.type or InstructionType()
        self._style = self._kind.style()

    def columns(self) -> Sequence[str]:
        """Input and system text may be missing; the instruction is needed where the prompt has it."""
        patterns = (self._style.with_input, self._style.without_input)
        wanted = any("{instruction}" in pattern for pattern in patterns)
        return (*((self._kind.field_instruction,) if wanted else ()), self._kind.field_output)

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """The prompt as the patterns say, and the response."""
        kind = self._kind
        system = text_or_nothing(row, kind.field_system) or kind.system_prompt or ""
        instruction = text_of(row, kind.field_instruction) if kind.field_instruction in self.columns() else ""
        response = text_of(row, kind.field_output)
        single = Single(instruction, response, text_or_nothing(row, kind.field_input), system)
        prompt = self._style.prompt(single, self.cfg[Data].train_on_inputs)
        return row_text(prompt, Segment(response, True, "response"))
