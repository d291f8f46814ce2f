"""Reading training data as a stream, without downloading or preparing them as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import PositiveInt

from newt.config.core import Data, RunControl
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class StreamingSettings(Section):
    """Keys of streamed data."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    streaming: bool | None = None
    """Tokenize rows when they are needed. Needs ``max_steps``."""
    streaming_multipack_buffer_size: PositiveInt = 10_000
    """Rows that are shuffled, and packed, at once."""


class Streaming(Feature):
    """Streams ``datasets``; ``pretraining_dataset`` is always streamed."""

    name = "streaming"
    Settings = (StreamingSettings,)
    off = "streaming is not on"
    switches = ("streaming",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is, or when there are pretraining data."""
        return bool(cfg[StreamingSettings].streaming or cfg.value("pretraining_dataset"))

    def check(self) -> Iterable[Problem]:
        """A stream has no known length, cannot be split, and is read once."""
        data = self.cfg[Data]
        if self.cfg[StreamingSettings].streaming and self.cfg[RunControl].max_steps is None:
            yield self.problem(("max_steps", "streaming"), "is missing: a stream has no known length.")
        if data.val_set_size:
            message = "cannot be used with streamed data: a stream cannot be split."
            yield self.problem("val_set_size", message, "Set test_datasets.")
        if data.dataset_exact_deduplication:
            yield self.problem("dataset_exact_deduplication", "cannot be used with streamed data.", "Remove one.")
        if self.cfg.value("sample_packing") and len(data.datasets or ()) > 1:
            message = "cannot be used with several streamed datasets."
            yield self.problem(("sample_packing", "streaming"), message, "Keep one dataset, or remove streaming.")
        if self.cfg.value("group_by_length"):
            message = "reads the whole stream before training starts."
            yield self.problem("group_by_length", message, "Remove it.", kind="warning")
