"""What a model sees of a row, as text: a tokenizer with one token for each byte, and marks around trained tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tests.helpers import make_run

from newt.config.core import Batch
from newt.data.encode import format_row
from newt.data.tokenize import RowTokenizer
from newt.extend import Format


@cache
def byte_tokenizer(eos: str | None = "</s>") -> Any:
    """One token for each byte, ``<s>`` before a text; ``</s>`` and the markers of ChatML are tokens too."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: id_ for id_, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, pad_token="</s>")


def make_format(kind: Any, entry: Mapping[str, Any] | None = None, **keys: Any) -> Format:
    """The format of an entry of this type, as a run makes it."""
    (fmt,) = make_run(datasets=[{"path": "a/b", "type": kind, **(entry or {})}], **keys).formats
    return fmt


def row_tokenizer(fmt: Format, tokenizer: Any = None) -> RowTokenizer:
    """The row tokenizer of a format."""
    return RowTokenizer(tokenizer or byte_tokenizer(), fmt.cfg, fmt, fmt.cfg[Batch].sequence_len)


def seen(kind: Any, row: Mapping[str, Any], entry: Mapping[str, Any] | None = None, **keys: Any) -> str:
    """The text of a row's tokens; trained ones stand between brackets. A row that becomes several: one line for each.

    The tokens come from ``encode``; those of ``explain``, which the inspector shows, must be the same.
    """
    fmt = make_format(kind, entry, **keys)
    rows = row_tokenizer(fmt)
    made = rows.encode(format_row(fmt, row))
    shown = rows.explain(format_row(fmt, row))
    pairs = [(int(id_), int(label)) for one in made for id_, label in zip(one.input_ids, one.labels, strict=True)]
    assert pairs == [(token.id, token.label) for token in shown]
    assert all(label in (id_, -100) for id_, label in pairs)
    return "\n".join(_marked(one.input_ids, one.labels) for one in made)


def _marked(ids: Any, labels: Any) -> str:
    text, run, trained = "", [], False
    for id_, label in [*zip(ids, labels, strict=True), (None, -100)]:
        if (label != -100) != trained or id_ is None:
            piece = byte_tokenizer().decode(run)
            text += f"⟦{piece}⟧" if trained else piece
            run, trained = [], label != -100
        run.append(id_)
    return text


def notes_of(kind: Any, row: Mapping[str, Any], **keys: Any) -> list[str]:
    """What the row tokenizer notes about a row."""
    fmt = make_format(kind, **keys)
    rows = row_tokenizer(fmt)
    rows.encode(format_row(fmt, row))
    return list(rows.notes)
