"""What a format makes of a dataset row: a conversation, plain text, or tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Segment:
    """A piece of text that is tokenized on its own.

    Attributes:
        text: the text.
        train: whether its tokens carry labels.
        reason: shown by the inspector, such as "response" or "prompt".
    """

    text: str
    train: bool
    reason: str = ""


@dataclass(frozen=True)
class Text:
    """Plain text in segments, without a chat template.

    Attributes:
        segments: in order.
        bos: let the tokenizer put its special tokens before the first segment.
        eos: append the end token when it is missing; it is trained if the last segment is.
        split: cut the token row into pieces of ``sequence_len`` instead of handling it as over-long.
    """

    segments: Sequence[Segment]
    bos: bool = True
    eos: bool = True
    split: bool = False


Policy = Literal["all", "turn", "last", "none"]


@dataclass(frozen=True)
class Turn:
    """Whether and how one message is trained.

    Attributes:
        train: the turn is a target.
        spans: character spans (begin, end, train) inside ``content`` that narrow it; empty: the whole turn.
        reasoning_spans: the same inside the reasoning text.
    """

    train: bool
    spans: Sequence[tuple[int, int, bool]] = ()
    reasoning_spans: Sequence[tuple[int, int, bool]] = ()


@dataclass(frozen=True)
class Conversation:
    """Messages for a chat template, and what of them is trained.

    Attributes:
        messages: as the template reads them (``role``, ``content``, ``tool_calls`` ...).
        turns: one for each message.
        tools: as the template reads them, or None.
        train_on_eos: which turns' end-of-sequence token is trained.
        train_on_eot: which turns' end-of-turn tokens are trained.
        template_kwargs: further variables of the template.
        reasoning_key: message key that holds reasoning text.
    """

    messages: Sequence[Mapping[str, Any]]
    turns: Sequence[Turn]
    tools: Sequence[Mapping[str, Any]] | None = None
    train_on_eos: Policy = "turn"
    train_on_eot: Policy = "turn"
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    reasoning_key: str = "reasoning_content"


@dataclass(frozen=True)
class Tokens:
    """A row that is tokenized already: ids and labels, both (length,)."""

    input_ids: Sequence[int]
    labels: Sequence[int]


FormattedRow = Conversation | Text | Tokens
