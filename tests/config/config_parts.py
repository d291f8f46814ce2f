"""Sections that stand for those of the Parts, and the smallest config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt

from newt.config.core import SECTIONS, Dataset
from newt.config.section import Problem, Section


class Group(Section):
    """One group of parameters."""

    name: str
    """How it is called."""
    lr: float = 0.1
    """Its learning rate."""


class Adapter(Section):
    """Keys of every kind of type."""

    adapter: str | None = None
    """Which adapter."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    lora_r: PositiveInt | None = None
    """Rank."""
    lora_alpha: PositiveInt | None = None
    """Scale."""
    lora_target_modules: str | tuple[str, ...] | None = None
    """Modules."""
    lora_rank_pattern: dict[str, PositiveInt] | None = None
    """Ranks by name."""
    bf16: Literal["auto", "full"] | bool | None = "auto"
    """Arithmetic."""
    optim_args: dict[str, Any] | str | None = None
    """Arguments."""
    lr_groups: tuple[Group, ...] | None = None
    """Groups."""
    rl_beta: float | None = None
    """Beta."""


class Alpaca(Dataset):
    """Entries of alpaca."""

    field: str = "text"
    """Column."""


class Chat(Dataset):
    """Entries of chat_template."""

    field_messages: str = "messages"
    """Column."""
    roles_to_train: tuple[str, ...] = ("assistant",)
    """Roles."""


ALL: tuple[type[Section], ...] = (*SECTIONS, Adapter)
FORMATS: dict[str, type[Dataset]] = {"alpaca": Alpaca, "chat_template": Chat}


class ByType:
    """Chooses the section of an entry."""

    others: Mapping[str, tuple[str, ...]] = {
        "field": ("alpaca",),
        "field_messages": ("chat_template",),
        "roles_to_train": ("chat_template",),
    }

    def __call__(self, entry: Mapping[str, Any], key: str, values: Mapping[str, Any]) -> type[Dataset] | Problem | str:
        name = entry.get("type")
        if name == "to_come":
            return Problem(("type",), "to_come is known, but Newt does not support it yet.", kind="unsupported")
        return FORMATS.get(str(name), f"unknown type {name!r}.")


MINIMAL = """\
base_model: some/model
learning_rate: 1e-3
micro_batch_size: 1
gradient_accumulation_steps: 1
datasets:
  - path: rows.jsonl
    type: alpaca
"""
