"""Which tokens of a conversation of mistral-common are trained, and why."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from newt.rows import Conversation, Turn
from newt.support.errors import DataError

_JOINT = "\n\n"
"""What mistral-common writes between joined texts."""
_CALLS = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")
_SCAFFOLD = ("[AVAILABLE_TOOLS]", "[MODEL_SETTINGS]")
_OPEN, _CLOSE = "[INST] ", " [/INST]"
"""The first version writes them as plain text."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Taken(NamedTuple):
    """A text and the ids that it was tokenized to."""

    text: str
    ids: list[int]


class Labelled(NamedTuple):
    """A token, whether it is trained, why, and the message that it comes from."""

    id: int
    text: str
    train: bool
    reason: str
    turn: int | None


class Part(NamedTuple):
    """Characters ``begin:end`` of a text that come from a field of a message; ``whole``: not character by character."""

    begin: int
    end: int
    turn: int
    field: str
    whole: bool = False


class Marks:
    """What the tokens of a text tokenizer of mistral-common stand for.

    Args:
        inner: a ``Tekkenizer`` or ``SentencePieceTokenizer``.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._bytes = hasattr(inner, "id_to_byte_piece")

    def is_control(self, id_: int) -> bool:
        """Whether it is no text."""
        return bool(self._inner.is_special(id_))

    def text(self, id_: int) -> str:
        """How to show it."""
        return str(self._inner.id_to_piece(id_)).replace("\u2581", " ")

    def places(self, taken: Taken) -> list[tuple[int, int]]:
        """Characters (begin, end) of each token; those of a part of a character are the whole character.

        Raises:
            DataError: the tokens do not spell the text.
        """
        pieces = [self._spelling(id_) for id_ in taken.ids]
        data = taken.text.encode()
        spelled = b"".join(pieces)
        added = len(spelled) - len(data)  # SentencePiece puts a blank before a text
        if spelled[added:] != data or spelled[:added].strip() or added not in (0, 1):
            raise DataError("the tokens of mistral-common do not spell the text")
        starts = np.frombuffer(data, np.uint8) & 0xC0 != 0x80
        char = np.cumsum(starts) - 1  # number of the character that each byte belongs to
        places, end = [], -added
        for piece in pieces:
            begin, end = max(0, end), end + len(piece)
            places.append((int(char[begin]), int(char[max(begin, end - 1)]) + 1))
        return places

    def _spelling(self, id_: int) -> bytes:
        if self._bytes:
            from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

            spelled: bytes = self._inner.id_to_byte_piece(id_, SpecialTokenPolicy.RAISE)
            return spelled
        piece = str(self._inner.id_to_piece(id_))
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace("\u2581", " ").encode()


def label(
    row: Conversation, heard: Sequence[tuple[str, list[int], list[Taken]]], sources: list[list[int]], marks: Marks
) -> list[Labelled]:
    """The tokens of all messages.

    Args:
        row: the conversation.
        heard: role, ids and tokenized texts of each message.
        sources: which messages of the row each is made of.
        marks: of the tokenizer.

    Raises:
        DataError: a text is not made of the messages as expected.
    """
    made: list[Labelled] = []
    last_stop: int | None = None
    for (role, ids, taken), own in zip(heard, sources, strict=True):
        tokens = _Message(row, role, own, marks).tokens(ids, taken)
        if role == "assistant" and tokens:
            stop, spoken = tokens[-1], own and row.turns[own[-1]].train
            train = row.train_on_eos == "all" or (row.train_on_eos == "turn" and bool(spoken))
            tokens[-1] = stop._replace(train=train, reason="stop token", turn=own[-1] if own else None)
            last_stop = len(made) + len(tokens) - 1 if spoken else last_stop
        made += tokens
    if row.train_on_eos == "last" and last_stop is not None:
        made[last_stop] = made[last_stop]._replace(train=True)
    return made


class _Message:
    """One message of mistral-common, made of some messages of the row."""

    def __init__(self, row: Conversation, role: str, own: list[int], marks: Marks) -> None:
        self.row, self.role, self.own, self.marks = row, role, own, marks
        said = [index for index, message in enumerate(row.messages) if message.get("role") == "system"]
        self._system = deque((index, "content", self._said(index, "content")) for index in said)
        self._left = deque(
            (index, field, text)
            for index in own
            for field in ("reasoning", "content")
            if (text := self._said(index, field))
        )

    def _said(self, index: int, field: str) -> str:
        message = self.row.messages[index]
        keys = ("reasoning_content", "reasoning") if field == "reasoning" else ("content",)
        found = next((message[key] for key in keys if message.get(key)), "")
        if not isinstance(found, str):
            raise DataError(f"message {index} ({self.role}): its parts must be text for a tokenizer of mistral-common")
        return found

    def tokens(self, ids: list[int], taken: Sequence[Taken]) -> list[Labelled]:
        """All tokens of the message, its stop token not yet decided."""
        made: list[Labelled] = []
        at, control, texts = 0, "", [one for one in taken if one.ids]
        while at < len(ids):
            if self.marks.is_control(ids[at]):
                control = self.marks.text(ids[at])
                made.append(Labelled(ids[at], control, False, "template text", None))
                at += 1
                continue
            one = self._standing_at(ids, at, texts)
            texts.remove(one)
            # Of two texts of a tool's message the first is the number of the call.
            names_call = self.role == "tool" and control == "[TOOL_RESULTS]" and bool(texts)
            made += self._text(one, _SCAFFOLD[0] if names_call else control)
            at += len(one.ids)
        return self._controls(made) if self.role == "assistant" else made

    def _standing_at(self, ids: list[int], at: int, texts: Sequence[Taken]) -> Taken:
        """The text whose tokens begin here and end before a control token; they are not always in their order."""
        for one in texts:
            end = at + len(one.ids)
            if ids[at:end] == one.ids and (end == len(ids) or self.marks.is_control(ids[end])):
                return one
        raise DataError("mistral-common writes text into this conversation that cannot be followed")

    def _controls(self, made: list[Labelled]) -> list[Labelled]:
        """The model writes the control tokens of its turn too: each goes with the text that it opens or closes."""
        for at, token in enumerate(made[:-1]):
            if token.turn is None and token.reason == "template text":
                near = made[at - 1] if token.text == "[/THINK]" and at else made[at + 1]
                made[at] = token._replace(train=near.train, reason="template text of the turn", turn=near.turn)
        return made

    def _text(self, taken: Taken, control: str) -> Iterator[Labelled]:
        if control in _SCAFFOLD:
            yield from (Labelled(id_, self.marks.text(id_), False, "template text", None) for id_ in taken.ids)
            return
        train = np.zeros(len(taken.text) + 1, np.int64)
        reasons: list[tuple[int, str, int | None]] = [(0, "template text", None)]
        before: bool | None = None
        parts = self._parts(taken.text, control)
        for number, part in enumerate(parts):
            pieces = list(self._decided(part))
            if number and part.begin > parts[number - 1].end:  # the joint is trained between trained texts
                train[parts[number - 1].end : part.begin] = bool(before) and pieces[0][2]
                reasons.append((parts[number - 1].end, "template text of the turn", part.turn))
            for begin, end, wanted, reason in pieces:
                train[begin:end] = wanted
                reasons.append((begin, reason, part.turn))
                before = wanted
            reasons.append((part.end, "template text", None))
        done = np.concatenate([[0], np.cumsum(train[:-1])])
        for id_, (begin, end) in zip(taken.ids, self.marks.places(taken), strict=True):
            trained = int(done[end] - done[begin])
            _, reason, turn = next(found for found in reversed(reasons) if found[0] <= begin)
            whole = end > begin and trained == end - begin
            if trained and not whole:
                reason = "straddles the border of what is trained"
            yield Labelled(id_, self.marks.text(id_), whole, reason, turn)

    def _parts(self, text: str, control: str) -> list[Part]:
        """What a text is made of."""
        if self.role == "tool" or control in _CALLS:
            field = "tool_calls" if self.role == "assistant" else "content"
            calls = [index for index in self.own if self.row.messages[index].get("tool_calls")] or self.own
            train = all(self.row.turns[index].train for index in calls)
            index = next((i for i in calls if self.row.turns[i].train == train), calls[-1])
            return [Part(0, len(text), index, field, whole=True)]
        begin = len(_OPEN) if self.role == "user" and text.startswith(_OPEN) and text.endswith(_CLOSE) else 0
        end = len(text) - len(_CLOSE) if begin else len(text)
        for queue in (self._left, deque([*self._system, *self._left])):
            found = _consumed(text[begin:end], queue)
            if found is not None:
                for _ in [part for part in found if part.turn in self.own]:
                    self._left.popleft()
                return [part._replace(begin=part.begin + begin, end=part.end + begin) for part in found]
        raise DataError("mistral-common changes a text of this conversation in a way that cannot be followed")

    def _decided(self, part: Part) -> Iterator[tuple[int, int, bool, str]]:
        """(begin, end, trained, why) for the characters of a part."""
        turn: Turn = self.row.turns[part.turn]
        role = str(self.row.messages[part.turn].get("role"))
        if not turn.train:
            yield part.begin, part.end, False, f"{role} turn: not trained"
            return
        reason = {"reasoning": "reasoning", "tool_calls": "tool call"}.get(part.field, f"{role} {part.field}")
        flags = turn.reasoning_spans if part.field == "reasoning" else turn.spans
        narrowed = bool(turn.spans or turn.reasoning_spans)
        if part.field == "tool_calls" or not narrowed:
            yield part.begin, part.end, True, reason
            return
        if part.whole or not flags:
            yield part.begin, part.end, False, f"{reason}: not flagged"
            return
        at = part.begin
        for low, high, wanted in sorted(flags):
            begin, end = min(part.begin + low, part.end), min(part.begin + high, part.end)
            if at < begin:
                yield at, begin, False, f"{reason}: flagged off"
            if begin < end:
                yield begin, end, wanted, reason if wanted else f"{reason}: flagged off"
            at = max(at, end)
        if at < part.end:
            yield at, part.end, False, f"{reason}: flagged off"


def _consumed(text: str, queue: Sequence[tuple[int, str, str]]) -> list[Part] | None:
    """What of the queue, from its beginning on, makes the text; None if it does not."""
    parts: list[Part] = []
    at = 0
    for turn, field, said in queue:
        if at == len(text):
            break
        begin = at + len(_JOINT) if parts and text.startswith(_JOINT, at) else at
        if text.startswith(said, begin):
            at = begin + len(said)
        elif text[begin:] == said.rstrip(" "):  # some versions cut blanks off the end of an answer
            at = len(text)
        else:
            return None
        parts.append(Part(begin, at, turn, field))
    return parts if at == len(text) else None
