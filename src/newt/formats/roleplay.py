"""Role play: ``metharme`` (a prompt that is written out) and ``pygmalion`` (a conversation with a persona)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from newt.config.core import Data
from newt.data.instructions import EMPTY_RESPONSE, objects_of, text_of
from newt.extend import Format, Segment, Text
from newt.rows import filled
from newt.support.errors import DataError

_END_TOKENS = 3
_NO_EOS = "the tokenizer has no end-of-sequence token, which this type writes. Set special_tokens.eos_token."


class Metharme(Format):
    """Prompt and generation as they are. The end token is trained three times, so that it is learned firmly."""

    name = "metharme"
    names = ("metharme", "metharme.load")
    _eos: str | None = None

    def columns(self) -> Sequence[str]:
        """Both."""
        return ("prompt", "generation")

    def bind(self, tokenizer: Any) -> None:
        """Take the end token."""
        self._eos = tokenizer.eos_token

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """Prompt, generation and end tokens."""
        if self._eos is None:
            raise DataError(_NO_EOS)
        prompt = Segment(text_of(row, "prompt"), self.cfg[Data].train_on_inputs, "prompt", fields=())
        generation = text_of(row, "generation")
        notes = () if generation else (EMPTY_RESPONSE,)
        end = Segment(self._eos * _END_TOKENS, True, "end token", fields=())
        return Text((prompt, Segment(generation, True, "generation"), end), notes=notes)


class Pygmalion(Format):
    """``conversations`` of ``{role, value}``: what the bot says is trained, each time with the end token."""

    name = "pygmalion"
    names = ("pygmalion", "pygmalion.load")
    _eos: str | None = None

    def columns(self) -> Sequence[str]:
        """The column of the turns."""
        return ("conversations",)

    def bind(self, tokenizer: Any) -> None:
        """Take the end token."""
        self._eos = tokenizer.eos_token

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """The persona, and each turn behind its marker."""
        if self._eos is None:
            raise DataError(_NO_EOS)
        segments: list[Segment] = []
        for number, turn in enumerate(objects_of(row, "conversations")):
            try:
                segments += self._turn(text_of(turn, "role"), text_of(turn, "value").strip())
            except DataError as error:
                raise DataError(f"conversations[{number}]: {error}") from error
        return Text(segments, eos=False)

    def _turn(self, role: str, value: str) -> Sequence[Segment]:
        inputs = self.cfg[Data].train_on_inputs
        if role == "system":
            persona = value.removesuffix("<START>").rstrip()
            return (_segment("<|system|>Persona: {value}", persona, inputs, "persona"),)
        if role == "human":
            return (_segment("<|user|> {value}", value, inputs, "human"),)
        if role == "bot":
            marker = Segment("<|model|>", inputs, "marker of the bot", fields=())
            end = Segment(str(self._eos), True, "end token", fields=())
            return (marker, Segment(f" {value}", True, "bot"), end)
        raise DataError(f"role must be system, human or bot, it is {role!r}")


def _segment(pattern: str, value: str, train: bool, reason: str) -> Segment:
    text, fields = filled(pattern, value=value)
    return Segment(text, train, reason, fields)
