"""Single instructions in the layouts and prompt styles of many older datasets."""

from __future__ import annotations

from typing import ClassVar

from newt.config.core import Dataset
from newt.extend import Format

STYLES = ("instruct", "chat", "chatml", "phi")
"""``name:style`` chooses a prompt style."""

_STYLED = (
    "alpaca", "explainchoice", "concisechoice", "summarizetldr", "jeopardy", "oasst", "gpteacher", "reflection",
)  # fmt: skip
_PLAIN = (
    "alpaca_chat", "alpaca_chat.load", "alpaca_chat.load_concise", "alpaca_chat.load_qa", "alpaca_chat.load_camel_ai",
    "alpaca_chat.load_no_prompt", "alpaca_instruct", "alpaca_instruct.load", "alpaca_instruct.load_no_prompt",
    "alpaca_w_system", "alpaca_w_system.load", "alpaca_w_system.load_instruct", "alpaca_w_system.load_chat",
    "alpaca_w_system.load_open_orca", "alpaca_w_system.load_open_orca_chatml", "orcamini", "orcamini.load",
    "context_qa", "context_qa.load", "context_qa.load_v2", "context_qa.load_404", "creative_acr",
    "creative_acr.load_answer", "creative_acr.load_critique", "creative_acr.load_revise", "metharme",
    "metharme.load", "pygmalion", "pygmalion.load", "llama2_chat", "llama2_chat.load", "messages", "messages.chat",
    "alpaca.load", "completion.load",
)  # fmt: skip


class InstructDataset(Dataset):
    """Keys of a dataset of single instructions."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    conversation: str | None = None
    """Style of the conversation, of older configs."""
    input_format: str | None = None
    """Layout of the prompt, of older configs."""
    input_transform: str | None = None
    """Change that is made to the prompt, of older configs."""
    field_human: str | None = None
    """Name of the human's turns, of older configs."""
    field_model: str | None = None
    """Name of the model's turns, of older configs."""


class Instruct(Format):
    """Instruction, perhaps an input, and a response."""

    name = "instruct"
    names = (
        *_PLAIN,
        *(name for name in _STYLED if name != "alpaca"),
        *(f"{name}:{style}" for name in _STYLED for style in STYLES),
    )
    Settings = InstructDataset
