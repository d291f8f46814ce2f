"""Rows for the tokenizers of the package mistral-common, which encode conversations themselves, without a template.

The ids are those of ``MistralTokenizer.encode_chat_completion``. While it works, a copy of it writes down which texts
it tokenizes for which message, and what each text is made of is compared with the messages piece by piece. So it is
known for every token which message it comes from, and nothing is searched for.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from newt.config.section import Config
from newt.data.mask import NOT_RENDERED
from newt.data.mistral_turns import Labelled, Marks, Taken, label
from newt.data.plain import TextRows
from newt.data.spelling import Ids, joined
from newt.data.tokens import IGNORED, ExplainedToken, RowError, TokenRow
from newt.extend import Conversation, Format, FormattedRow, Text, Tokens
from newt.support.errors import DataError, NewtError


class Message(NamedTuple):
    """A message as mistral-common sees it: its role, its ids, and the texts that were tokenized for it."""

    role: str
    ids: list[int]
    taken: list[Taken]


class _Listening:
    """A text tokenizer that keeps what it was asked for."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.taken: list[Taken] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode(self, s: str, bos: bool, eos: bool) -> list[int]:
        """Ids of a text; the names are those of mistral-common."""
        ids: list[int] = self._inner.encode(s, bos=bos, eos=eos)
        self.taken.append(Taken(s, list(ids)))  # a copy: the caller goes on with the list
        return ids


def _listening(instruct: Any) -> Any:
    """A copy of an instruct tokenizer that keeps what it encodes for each message, in ``heard``."""
    kind = type(instruct)

    class Heard(kind):  # type: ignore[valid-type, misc]
        def _keep(self, role: str, made: Any) -> Any:
            ids = made[0] if isinstance(made, tuple) else made
            self.heard.append(Message(role, list(ids), self.tokenizer.taken[:]))
            self.tokenizer.taken.clear()
            return made

        def encode_user_message(self, *args: Any, **kwargs: Any) -> Any:
            return self._keep("user", super().encode_user_message(*args, **kwargs))

        def encode_assistant_message(self, *args: Any, **kwargs: Any) -> Any:
            return self._keep("assistant", super().encode_assistant_message(*args, **kwargs))

        def encode_tool_message(self, *args: Any, **kwargs: Any) -> Any:
            return self._keep("tool", super().encode_tool_message(*args, **kwargs))

        def encode_system_message(self, *args: Any, **kwargs: Any) -> Any:
            return self._keep("system", super().encode_system_message(*args, **kwargs))

    ours = copy.copy(instruct)
    ours.__class__ = Heard
    ours.tokenizer = _Listening(instruct.tokenizer)
    ours.heard = []
    return ours


class MistralRows:
    """Makes token rows with a tokenizer of mistral-common; it stands in for ``data.tokenize.RowTokenizer``.

    Args:
        tokenizer: transformers' ``MistralCommonBackend``.
        cfg: the config.
        fmt: the format.
        limit: tokens of a piece where a text is split.

    Attributes:
        notes: what was odd about rows, counted.
    """

    def __init__(self, tokenizer: Any, cfg: Config, fmt: Format, limit: int) -> None:
        from mistral_common.protocol.instruct.normalize import get_normalizer
        from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

        self.tokenizer = tokenizer
        self.notes: Counter[str] = Counter()
        instruct = tokenizer.tokenizer.instruct_tokenizer
        self._inner = instruct.tokenizer
        self._instruct = _listening(instruct)
        self._mistral = MistralTokenizer(
            self._instruct,
            get_validator(self._inner.version, mode=ValidationMode.finetuning),
            get_normalizer(self._inner.version, self._inner.model_settings_builder),
        )
        self._marks = Marks(self._inner)
        self._plain = TextRows(MistralTexts(tokenizer), limit, None)  # type: ignore[arg-type]
        fmt.bind(tokenizer)

    def encode(self, formatted: FormattedRow) -> list[TokenRow]:
        """Token rows of one formatted row (several only for a split text).

        Raises:
            DataError: the row cannot be used.
        """
        return self.encode_many([formatted])[0]

    def encode_many(self, rows: Sequence[FormattedRow]) -> list[list[TokenRow]]:
        """Token rows of many formatted rows, in order.

        Raises:
            RowError: a row cannot be used.
        """
        return [self._encoded(index, row) for index, row in enumerate(rows)]

    def _encoded(self, index: int, row: FormattedRow) -> list[TokenRow]:
        if isinstance(row, Text):
            self.notes.update(row.notes)
            return next(self._plain.encode([row]))
        if isinstance(row, Tokens):
            return [TokenRow(np.asarray(row.input_ids, np.int32), np.asarray(row.labels, np.int32))]
        try:
            tokens = self._labelled(row)
        except DataError as error:
            raise RowError(index, str(error)) from error
        ids = np.array([token.id for token in tokens], np.int32)
        trained = np.array([token.train for token in tokens], bool)
        return [TokenRow(ids, np.where(trained, ids, IGNORED).astype(np.int32))]

    def explain(self, formatted: FormattedRow) -> list[ExplainedToken]:
        """Every token of a row with its label and the reason for it."""
        if isinstance(formatted, Text):
            return self._plain.explain(formatted)
        if isinstance(formatted, Tokens):
            pairs = zip(formatted.input_ids, formatted.labels, strict=True)
            return [ExplainedToken(id_, self._marks.text(id_), label_, formatted.reason, None) for id_, label_ in pairs]
        return [
            ExplainedToken(token.id, token.text, token.id if token.train else IGNORED, token.reason, token.turn)
            for token in self._labelled(formatted)
        ]

    # ------------------------------------------------------------------ conversations

    def _labelled(self, row: Conversation) -> list[Labelled]:
        if row.train_on_eos != row.train_on_eot:
            raise NewtError(
                "train_on_eot: a tokenizer of mistral-common ends turns with its end-of-sequence token alone. "
                "Remove it, and set train_on_eos."
            )
        ids = self._ids(row)
        heard = self._instruct.heard
        opening = self._instruct.start()
        if ids != [*opening, *(id_ for message in heard for id_ in message.ids)]:
            raise DataError("mistral-common encodes this conversation in a way that cannot be followed")
        labelled = [Labelled(id_, self._marks.text(id_), False, "template text", None) for id_ in opening]
        sources = _sources(row, heard)
        labelled += label(row, [(message.role, message.ids, message.taken) for message in heard], sources, self._marks)
        silent = [own for message, own in zip(heard, sources, strict=True) if not message.ids]
        self.notes.update(NOT_RENDERED for own in silent for index in own if row.turns[index].train)
        return labelled

    def _ids(self, row: Conversation) -> list[int]:
        """The ids that mistral-common gives.

        Raises:
            DataError: it refuses the conversation.
        """
        from mistral_common.exceptions import MistralCommonException
        from mistral_common.protocol.instruct.request import ChatCompletionRequest

        self._instruct.heard.clear()
        self._instruct.tokenizer.taken.clear()
        tools = None if row.tools is None else list(row.tools)
        try:
            request = ChatCompletionRequest.from_openai(
                messages=[_message(message) for message in row.messages], tools=tools, **row.template_kwargs
            )
            ids: list[int] = self._mistral.encode_chat_completion(request).tokens
        except (MistralCommonException, ValueError, TypeError, KeyError, AssertionError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"mistral-common refuses this conversation: {said}") from error
        return ids


def _message(message: Any) -> dict[str, Any]:
    """A message with the keys that mistral-common reads."""
    known = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning")
    made = {key: message[key] for key in known if key in message}
    if made.get("content") == "" and (made.get("tool_calls") or made.get("reasoning_content")):
        made["content"] = None
    return made


def _sources(row: Conversation, heard: Sequence[Message]) -> list[list[int]]:
    """Which messages of the row each encoded message is made of: mistral-common joins neighbours of one role.

    Raises:
        DataError: there are others than expected.
    """
    roles = [str(message.get("role")) for message in row.messages]
    apart = any(message.role == "system" for message in heard)
    expected: list[tuple[str, list[int]]] = []
    for index, role in enumerate(roles):
        if role == "system" and not apart:
            continue
        if index and roles[index - 1] == role and role in ("user", "assistant"):
            expected[-1][1].append(index)
        else:
            expected.append((role, [index]))
    if len(heard) == len(expected) + 1 and heard[0].role == "user":
        expected.insert(0, ("user", []))  # a conversation that does not begin with a question gets an empty one
    if [role for role, _ in expected] != [message.role for message in heard]:
        raise DataError("mistral-common joins the messages of this conversation in a way that cannot be followed")
    return [own for _, own in expected]


class MistralTexts:
    """Encodes plain texts, as ``data.texts.TextEncoder`` does."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.notes: list[str] = []
        self._inner = tokenizer.tokenizer.instruct_tokenizer.tokenizer
        self._marks = Marks(self._inner)

    def encode(self, texts: Sequence[str], split_special: bool = False) -> Ids:
        """Ids of texts; text never becomes a control token."""
        return joined([np.array(ids, np.int32) for ids in self._all(texts)])

    def _all(self, texts: Sequence[str]) -> Iterator[list[int]]:
        for text in texts:
            yield self._inner.encode(text, bos=False, eos=False)

    def standard(self, text: str, special: bool) -> list[int]:
        """Ids of one text, with or without the beginning token."""
        ids: list[int] = self._inner.encode(text, bos=special, eos=False)
        return ids

    def located(self, text: str, pieces: object = None) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and characters of each token."""
        ids: list[int] = self._inner.encode(text, bos=False, eos=False)
        return ids, self._marks.places(Taken(text, ids))
