"""Reading training data as a stream, without downloading or preparing them as a whole."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import PositiveInt

from newt.config.core import Data, Loader, RunControl
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, Feature


class StreamingSettings(Section):
    """Keys of streamed data."""

    streaming: bool | None = None
    """Tokenize rows when they are needed. Needs ``max_steps``."""
    streaming_multipack_buffer_size: PositiveInt = 10_000
    """Rows that are shuffled, and packed, at once."""


NOT_SUPERVISED = ("rl", "reward_model", "process_reward_model", "kd_trainer")
"""Keys of methods whose rows are not streamed."""
WHOLE = ("dataset_shard_num", "skip_prepare_dataset", "dataset_exact_deduplication")
"""Keys of ``Data`` that need all rows before the first is trained."""
ORDERS = ("group_by_length", "curriculum_sampling")


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
        for key in NOT_SUPERVISED:
            if self.cfg.value(key):
                yield self.problem(("streaming", key), f"cannot be used with {key}.", "Remove one.")
        for key in WHOLE:
            if getattr(data, key):
                yield self.problem(key, "cannot be used with streamed data.", "Remove one.")
        yield from self._check_entries()
        yield from self._check_order()

    def _check_entries(self) -> Iterable[Problem]:
        texts = self.cfg.value("pretraining_dataset")
        key = "pretraining_dataset" if texts else "datasets"
        for number, entry in enumerate(texts or self.cfg[Data].datasets or ()):
            if entry.shards:
                message = "cannot be used with streamed data: a random part needs all rows."
                yield self.problem(f"{key}.{number}.shards", message, "Take a slice of the split, or remove it.")

    def _check_order(self) -> Iterable[Problem]:
        for key in ORDERS:
            if self.cfg.value(key):
                hint = "Remove it; shuffle_merged_datasets: false keeps the order of the rows."
                yield self.problem(key, "has no effect on streamed data.", hint, kind="warning")
        if (self.cfg[Loader].dataloader_num_workers or 0) > 1:
            message = "has no effect beyond 1: a stream is read by one process."
            yield self.problem("dataloader_num_workers", message, "Set 1, or remove it.", kind="warning")

    def plan_data(self, plan: DataPlan) -> None:
        """Say how many rows are read at once."""
        plan.stream.fill(self.cfg[StreamingSettings].streaming_multipack_buffer_size, by=self.name)
