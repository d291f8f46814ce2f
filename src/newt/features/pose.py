"""Positional skip-wise training: learn a long context from short rows (https://arxiv.org/abs/2309.10400)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, PositiveInt

from newt.config.core import Batch, RunControl
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, Feature

if TYPE_CHECKING:
    import numpy as np


class PoseSettings(Section):
    """Keys of positional skips."""

    use_pose: bool | None = None
    """Cut each row into chunks and let the positions jump between them."""
    pose_max_context_len: PositiveInt | None = None
    """Positions stay below this: the context that is trained."""
    pose_num_chunks: PositiveInt | None = None
    """Chunks of equal length. Default 2."""
    pose_split_on_token_ids: tuple[NonNegativeInt, ...] | None = None
    """Cut before these tokens instead."""


class Pose(Feature):
    """Makes the position ids of each row."""

    name = "pose"
    Settings = (PoseSettings,)
    off = "use_pose is not on"
    switches = ("use_pose",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[PoseSettings].use_pose)

    def check(self) -> Iterable[Problem]:
        """A longer context, one way to cut, and rows of their own."""
        settings, length = self.cfg[PoseSettings], self.cfg[Batch].sequence_len
        if settings.pose_max_context_len is None:
            yield self.problem(("pose_max_context_len", "use_pose"), "is missing.", "Set the context to train.")
        elif settings.pose_max_context_len <= length:
            message = f"must be longer than sequence_len ({length})."
            yield self.problem("pose_max_context_len", message)
        if settings.pose_num_chunks and settings.pose_split_on_token_ids:
            keys = ("pose_num_chunks", "pose_split_on_token_ids")
            yield self.problem(keys, "cannot be used with pose_split_on_token_ids.", "Remove one.")
        if self.cfg.value("sample_packing"):
            yield self.problem(("use_pose", "sample_packing"), "cannot be used with sample_packing.", "Remove one.")
        for key in ("streaming", "pretraining_dataset"):
            if self.cfg.value(key):
                yield self.problem(("use_pose", key), f"cannot be used with {key}.", "Remove one.")
        for key in ("rl", "reward_model", "process_reward_model"):
            if self.cfg.value(key):
                yield self.not_yet("use_pose", f"true with {key}", "Remove it.")

    def plan_data(self, plan: DataPlan) -> None:
        """Give every training row its positions; evaluation rows keep theirs."""
        context = self.cfg[PoseSettings].pose_max_context_len
        if context is not None:
            plan.transforms.append(Skips(self.cfg[PoseSettings], context, self.cfg[RunControl].seed))


class Skips:
    """Adds ``position_ids`` to a row; drawn anew in every epoch."""

    def __init__(self, settings: PoseSettings, context: int, seed: int) -> None:
        self.settings, self.context, self.seed = settings, context, seed

    def __call__(self, row: Mapping[str, np.ndarray], number: int, epoch: int) -> dict[str, Any]:
        """Return the row with positions below the context."""
        import numpy as np

        from newt.data.skips import skipping_positions

        random = np.random.default_rng([self.seed, epoch, number])
        chunks, cuts = self.settings.pose_num_chunks or 2, self.settings.pose_split_on_token_ids
        return {**row, "position_ids": skipping_positions(row["input_ids"], self.context, chunks, cuts, random)}
