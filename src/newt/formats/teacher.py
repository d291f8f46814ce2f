"""Conversations with a teacher model's log-probabilities, for distillation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from newt.config.core import Dataset
from newt.config.entries import ChatTemplateDataset
from newt.extend import Format


class TeacherDataset(ChatTemplateDataset):
    """Keys of a dataset with a teacher's log-probabilities."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    logprobs_field: str = "logprobs"
    """Column that holds the log-probabilities of the likeliest tokens at each place."""
    temperature: float | None = Field(default=None, gt=0)
    """Temperature at which the teacher gave them. Default 1."""


class Teacher(Format):
    """Messages and log-probabilities."""

    name = "teacher"
    names = (
        "axolotl.integrations.kd.chat_template",
        "axolotl.integrations.kd.chat_template.load",
        "axolotl.integrations.kd.chat_template_v2",
        "kd.chat_template",
    )
    Settings = TeacherDataset
