"""``type: alpaca``: instruction, input and output in the prompt of Stanford Alpaca."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from newt.config.core import Data
from newt.extend import Format, Segment, Text
from newt.support.errors import DataError

_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


class Alpaca(Format):
    """Single instructions (https://github.com/tatsu-lab/stanford_alpaca)."""

    name = "alpaca"

    def columns(self) -> Sequence[str]:
        """``input`` may be missing."""
        return ("instruction", "output")

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """The prompt, and the response as a segment of its own."""
        instruction, output = _text(row, "instruction"), _text(row, "output")
        context = _text(row, "input") if row.get("input") is not None else ""
        prompt = _WITH_INPUT if context else _WITHOUT_INPUT
        filled = prompt.format(instruction=instruction, input=context)
        return Text((Segment(filled, self.cfg[Data].train_on_inputs, "prompt"), Segment(output, True, "response")))


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if value is None:
        raise DataError(f"{field} is missing; the row has: {', '.join(map(str, row)) or 'nothing'}")
    if not isinstance(value, str):
        raise DataError(f"{field} must be a text, it is {value!r}")
    return value
