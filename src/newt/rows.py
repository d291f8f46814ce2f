"""What a format makes of a dataset row: a conversation, plain text, or tokens; how such rows stay apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Literal


@dataclass(frozen=True)
class Segment:
    """A piece of text that is tokenized on its own.

    Attributes:
        text: the text.
        train: whether its tokens carry labels.
        reason: shown by the inspector, such as "response" or "prompt".
        fields: characters (begin, end) that came from the row; None: all of them. The rest is written by the format,
            so its special tokens are meant. ``filled`` gives both.
    """

    text: str
    train: bool
    reason: str = ""
    fields: Sequence[tuple[int, int]] | None = None

    @property
    def said(self) -> Sequence[tuple[int, int]]:
        """Characters (begin, end) that came from the row."""
        return ((0, len(self.text)),) if self.fields is None else self.fields


def filled(template: str, **fields: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """``template.format(**fields)``, and where the fields stand in it: text and ``fields`` of a ``Segment``.

    Raises:
        KeyError: the template names another field.
    """
    text, places = "", []
    for literal, name, _, _ in Formatter().parse(template):
        text += literal
        if name is not None:
            places.append((len(text), len(text) + len(fields[name])))
            text += fields[name]
    return text, tuple(places)


@dataclass(frozen=True)
class Text:
    """Plain text in segments, without a chat template.

    Attributes:
        segments: in order.
        bos: let the tokenizer put its special tokens before the first segment.
        eos: append the end token when it is missing; it is trained if the last segment is.
        split: cut the token row into pieces of ``sequence_len`` instead of handling it as over-long.
        overlapping: with ``split``, pieces repeat the end of the one before as context, which is not trained again.
        joined: tokenize the segments as one text instead of each on its own; a token across a border is not trained.
        notes: what is odd about the row; the data report counts them.
    """

    segments: Sequence[Segment]
    bos: bool = True
    eos: bool = True
    split: bool = False
    overlapping: bool = False
    joined: bool = False
    notes: Sequence[str] = ()


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
    """A row that is tokenized already: ids and labels, both (length,), and the reason that the inspector shows."""

    input_ids: Sequence[int]
    labels: Sequence[int]
    reason: str = "given by the row"


FormattedRow = Conversation | Text | Tokens


@dataclass(frozen=True)
class Isolation:
    """How the samples of one row are kept apart.

    Attributes:
        by: ``position_ids`` that restart (the architecture makes its mask of them); ``mask``: a 4-D block-diagonal mask
            as well; ``seq_idx``: the number of each token's sample as well, for architectures with a recurrent state.
        windows: kind of layer -> its sliding window in tokens, None where there is none. With it the mask is a mapping
            from kind of layer to mask; without it there is one mask for all layers.
        additive: the mask is added to the scores (0 and the lowest number), as eager attention does; otherwise it is
            boolean, as sdpa reads it.
    """

    by: Literal["position_ids", "mask", "seq_idx"] = "position_ids"
    windows: Mapping[str, int | None] = field(default_factory=dict)
    additive: bool = False
