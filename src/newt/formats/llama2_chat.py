"""``type: llama2_chat``: conversations in the prompt of Llama 2 Chat, without a chat template.

https://github.com/meta-llama/llama (``chat_completion``)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from newt.config.core import Data
from newt.data.instructions import objects_of, text_of
from newt.extend import Format, Segment, Text
from newt.rows import filled
from newt.support.errors import DataError

_SYSTEM = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information."
)
"""System text of conversations that have none: that of the published model."""


class Llama2Chat(Format):
    """``conversations`` of ``{from, value}``: human and gpt in turn, perhaps behind a system turn."""

    name = "llama2_chat"
    names = ("llama2_chat", "llama2_chat.load")
    _bos = ""
    _eos: str | None = None

    def columns(self) -> Sequence[str]:
        """The column of the turns."""
        return ("conversations",)

    def bind(self, tokenizer: Any) -> None:
        """Take the tokens that begin and end each exchange."""
        self._bos, self._eos = tokenizer.bos_token or "", tokenizer.eos_token

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """One segment for each prompt and each answer; an answer ends with the end token."""
        if self._eos is None:
            raise DataError("the tokenizer has no end-of-sequence token. Set special_tokens.eos_token.")
        turns = objects_of(row, "conversations")
        system = _SYSTEM
        if turns and turns[0].get("from") == "system":
            system, turns = text_of(turns[0], "value"), turns[1:]
        if len(turns) < 2:
            raise DataError("conversations must hold a human turn and a gpt turn")
        segments: list[Segment] = []
        for number, turn in enumerate(turns):
            expected = ("human", "gpt")[number % 2]
            if turn.get("from") != expected:
                raise DataError(
                    f"human and gpt must alternate: turn {number} is of {turn.get('from')!r}, not {expected}"
                )
            segments += self._turn(number, text_of(turn, "value").strip(), system)
        return Text(segments, eos=False, joined=True)

    def _turn(self, number: int, value: str, system: str) -> Sequence[Segment]:
        if number % 2:
            return (Segment(f" {value} ", True, "answer"), Segment(str(self._eos), True, "end token", fields=()))
        inputs = self.cfg[Data].train_on_inputs
        pattern = "[INST] {value} [/INST]" if number else "[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{value} [/INST]"
        text, fields = filled(pattern, system=system, value=value)
        prompt = Segment(text, inputs, "prompt", fields)
        return (Segment(self._bos, inputs, "beginning token", fields=()), prompt) if number else (prompt,)
