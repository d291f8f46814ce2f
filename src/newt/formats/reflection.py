"""``type: reflection``: an instruction, a first answer, thoughts about it, and the corrected answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from newt.config.core import Data, Dataset
from newt.config.section import Config
from newt.data.instructions import STYLES, Single, row_text, styled, text_of, text_or_nothing
from newt.extend import Format, Segment, Text
from newt.rows import filled

_RESPONSE = "### Thought:\n{output}\n\n### Agent Reflection:\n{reflection}\n\n### Final Response:\n{corrected}"
_CHAT_RESPONSE = "\nTHOUGHT: {output}\nASSISTANT REFLECTION: {reflection}\nASSISTANT: {corrected}"


class Reflection(Format):
    """The three parts of the answer are trained; prompt and answer are tokenized as one text."""

    name = "reflection"
    names = ("reflection", *styled(("reflection",)))

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        super().__init__(entry, cfg)
        style = str(entry.type).partition(":")[2] or "instruct"
        self._style = STYLES[style]
        self._response = _CHAT_RESPONSE if style == "chat" else _RESPONSE

    def columns(self) -> Sequence[str]:
        """``input`` may be missing."""
        return ("instruction", "output", "reflection", "corrected")

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """The prompt, and the whole answer."""
        single = Single(text_of(row, "instruction"), "", text_or_nothing(row, "input"))
        answer, fields = filled(
            self._response, **{name: text_of(row, name) for name in ("output", "reflection", "corrected")}
        )
        prompt = self._style.prompt(single, self.cfg[Data].train_on_inputs)
        return row_text(prompt, Segment(answer, True, "response", fields), joined=True)
