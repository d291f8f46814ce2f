"""Single instructions in the layouts of Stanford Alpaca and of the datasets that followed it.

https://github.com/tatsu-lab/stanford_alpaca
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from newt.config.core import Dataset
from newt.config.section import Config, Problem
from newt.data.instructions import (
    CHAT,
    CHATML,
    STYLES,
    Instructions,
    Layout,
    Row,
    Single,
    Style,
    from_columns,
    styled,
    text_of,
    text_or_nothing,
)

_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
_CONCISE_WITH_INPUT = (
    "Below is an instruction from a USER that describes a task, paired with an input that provides further context. "
    "The ASSISTANT writes a response that concisely and appropriately completes the request.\n\n"
)
_CONCISE_WITHOUT_INPUT = (
    "Below is an instruction from a USER that describes a task. "
    "The ASSISTANT writes a response that appropriately and concisely completes the request.\n\n"
)
_ORCA = Style(
    "### System:\n{system}\n",
    "### Human:\n{instruction}\n### Additional Context:\n{input}\n### Assistant:\n",
    "### Human:\n{instruction}\n### Assistant:\n",
)
_ORCA_MINI = Style(
    "### System:\n{system}\n\n",
    "### User:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
    "### User:\n{instruction}\n\n### Response:\n",
)


def _layout(instruction: str, response: str, context: str = "", system: str = "") -> Layout:
    """Alpaca's prompt around the named columns; a column for the system text replaces its own text."""
    read = from_columns(instruction, response, context=context, system=system)
    texts = ("", "") if system else (_WITH_INPUT, _WITHOUT_INPUT)
    return Layout(read, (instruction, response), system=texts[0], system_without_input=texts[1])


def _jeopardy(row: Row) -> Single:
    """The answer is a question, as in the quiz."""
    return Single(text_of(row, "question"), f"what is {text_of(row, 'answer')}", text_or_nothing(row, "category"))


def _concise(layout: Layout) -> Layout:
    return replace(layout, style=CHAT, system=_CONCISE_WITH_INPUT, system_without_input=_CONCISE_WITHOUT_INPUT)


def _bare(layout: Layout) -> Layout:
    return replace(layout, system="", system_without_input=None)


_ALPACA = _layout("instruction", "output", "input")
_CHAT = replace(_ALPACA, style=CHAT)
_WITH_SYSTEM = _layout("instruction", "output", "input", "system")
_OPEN_ORCA = _layout("question", "response", system="system_prompt")

_STYLED = {
    "alpaca": _ALPACA,
    "gpteacher": _layout("instruction", "response", "input"),
    "oasst": _layout("INSTRUCTION", "RESPONSE"),
    "jeopardy": replace(_ALPACA, read=_jeopardy, columns=("question", "answer")),
}
_CONVERSATION = {"alpaca_chat": _CHAT, "alpaca_chat.load": _CHAT}


class AlpacaDataset(Dataset):
    """Keys of a dataset of single instructions."""

    conversation: Literal["instruct", "chat", "chatml", "phi"] | None = None
    """Prompt style of ``alpaca_chat``. Default: chat."""
    input_format: str | None = None
    """Of older configs; nothing reads it."""
    input_transform: str | None = None
    """Of older configs; nothing reads it."""
    field_human: str | None = None
    """Of older configs; nothing reads it."""
    field_model: str | None = None
    """Of older configs; nothing reads it."""

    def check_entry(self, cfg: Config, key: str) -> Iterable[Problem]:
        """Keys of older configs that change nothing are named."""
        yield from super().check_entry(cfg, key)
        for name in ("input_format", "input_transform", "field_human", "field_model"):
            if getattr(self, name) is not None:
                yield cfg.problem(f"{key}.{name}", "has no effect.", "Remove it.", "warning")
        if self.conversation and self.type not in _CONVERSATION:
            message = f"has no effect with type {self.type}, only with alpaca_chat."
            yield cfg.problem(f"{key}.conversation", message, "Remove it.", "warning")


class Alpaca(Instructions):
    """Instruction, perhaps an input, perhaps a system text, and the response."""

    name = "alpaca"
    Settings = AlpacaDataset
    layouts: ClassVar[Mapping[str, Layout]] = {
        **_STYLED,
        **_CONVERSATION,
        "alpaca.load": _ALPACA,
        "alpaca_chat.load_concise": _concise(_ALPACA),
        "alpaca_chat.load_qa": _concise(_layout("question", "answer")),
        "alpaca_chat.load_camel_ai": _concise(_layout("message_1", "message_2")),
        "alpaca_chat.load_no_prompt": _bare(_CHAT),
        "alpaca_instruct": _ALPACA,
        "alpaca_instruct.load": _ALPACA,
        "alpaca_instruct.load_no_prompt": _bare(_ALPACA),
        "alpaca_w_system": replace(_WITH_SYSTEM, style=CHAT),
        "alpaca_w_system.load": replace(_WITH_SYSTEM, style=CHAT),
        "alpaca_w_system.load_chat": replace(_WITH_SYSTEM, style=CHAT),
        "alpaca_w_system.load_instruct": _WITH_SYSTEM,
        "alpaca_w_system.load_open_orca": replace(_OPEN_ORCA, style=_ORCA),
        "alpaca_w_system.load_open_orca_chatml": replace(_OPEN_ORCA, style=CHATML),
        "orcamini": replace(_OPEN_ORCA, style=_ORCA_MINI),
        "orcamini.load": replace(_OPEN_ORCA, style=_ORCA_MINI),
    }
    names = (*layouts, *styled(_STYLED))

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        super().__init__(entry, cfg)
        if isinstance(entry, AlpacaDataset) and entry.conversation and entry.type in _CONVERSATION:
            self.layout = replace(self.layout, style=STYLES[entry.conversation])
