"""``type: stepwise_supervised``: answers in steps, each of them right or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import PositiveInt

from newt.config.core import Dataset
from newt.config.section import Config
from newt.data.instructions import text_of
from newt.extend import Format, Tokens
from newt.support.errors import DataError

IGNORED = -100
"""Label of a token that says nothing about a step."""


class StepwiseDataset(Dataset):
    """Keys of a dataset of judged steps."""

    step_separator: str = "\n"
    """Text after each step; its last token carries the label."""
    max_completion_length: PositiveInt | None = None
    """Longest answer in tokens; the rest is cut."""
    train_on_last_step_only: bool = False
    """Only the last step carries a label."""


class Stepwise(Format):
    """``prompt``, ``completions`` and ``labels``: 1 for a right step, 0 for a wrong one (https://arxiv.org/abs/2305.20050)."""

    name = "stepwise_supervised"
    Settings = StepwiseDataset
    rows = "steps"

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        super().__init__(entry, cfg)
        assert isinstance(entry, StepwiseDataset)
        self._settings = entry
        self._tokenizer: Any = None
        self._separator: list[int] = []

    def columns(self) -> Sequence[str]:
        """All three."""
        return ("prompt", "completions", "labels")

    def bind(self, tokenizer: Any) -> None:
        """Take the tokenizer, and encode the separator once.

        Raises:
            DataError: the separator is nothing in this tokenizer.
        """
        self._tokenizer = tokenizer
        self._separator = self._ids(self._settings.step_separator)
        if not self._separator:
            raise DataError("step_separator gives no token, and its last token carries the label. Set another one.")

    def __call__(self, row: Mapping[str, Any]) -> Tokens:
        """The steps, each with its separator; labels stand at the separators' last tokens."""
        prompt = text_of(row, "prompt")
        ids = self._opened(prompt)
        labels = [IGNORED] * len(ids)
        begin = len(ids)
        steps, judged = _steps(row)
        for number, (step, label) in enumerate(zip(steps, judged, strict=True)):
            piece = [*self._ids(step), *self._separator]
            silent = self._settings.train_on_last_step_only and number < len(steps) - 1
            ids += piece
            labels += [*[IGNORED] * (len(piece) - 1), IGNORED if silent else int(label)]
        end = None if self._settings.max_completion_length is None else begin + self._settings.max_completion_length
        return Tokens(ids[:end], labels[:end], reason="step")

    def _opened(self, prompt: str) -> list[int]:
        """The prompt with the tokenizer's beginning token, without an end token."""
        tokenizer = self._tokenizer
        ids: list[int] = tokenizer(prompt, truncation=False)["input_ids"]
        return (
            ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id and not prompt.endswith(tokenizer.eos_token) else ids
        )

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
        return ids


def _steps(row: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[bool | int]]:
    """The steps and their labels.

    Raises:
        DataError: they do not fit together, or are something else.
    """
    steps, labels = row.get("completions"), row.get("labels")
    if not isinstance(steps, list | tuple) or not steps or not all(isinstance(step, str) for step in steps):
        raise DataError(f"completions must be a list of texts, it is {steps!r}")
    if not isinstance(labels, list | tuple) or not all(label in (0, 1) for label in labels):
        raise DataError(f"labels must be a list of true and false, it is {labels!r}")
    if len(steps) != len(labels):
        raise DataError(f"completions has {len(steps)} steps and labels {len(labels)}")
    return steps, labels
