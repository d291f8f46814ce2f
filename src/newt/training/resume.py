"""Where a run begins: at step 0, or at a checkpoint. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from newt.config.core import Cadence, RunControl
from newt.config.section import Config
from newt.support.errors import CheckpointError
from newt.training import checkpoints
from newt.training.fingerprint import differences


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        checkpoint: folder to go on from, or None for step 0.
        skipped: newer checkpoints that cannot be used, one line each.
        split: the same steps go on in smaller micro-batches than those of the checkpoint.
    """

    checkpoint: Path | None = None
    skipped: tuple[str, ...] = ()
    split: bool = False

    @property
    def step(self) -> int:
        """Optimizer steps that are done."""
        return (
            0
            if self.checkpoint is None
            else int(checkpoints.read_json(self.checkpoint, checkpoints.STATE)["global_step"])
        )

    @property
    def weights_alone(self) -> bool:
        """Whether the checkpoint has no state of the optimizer (``save_only_model``)."""
        return self.checkpoint is not None and checkpoints.holds_weights_alone(self.checkpoint)

    @property
    def seconds(self) -> float:
        """What the run took up to there."""
        if self.checkpoint is None:
            return 0.0
        return float(checkpoints.read_json(self.checkpoint, checkpoints.TOKENS).get("seconds", 0.0))


def find_start(cfg: Config) -> Start:
    """Choose the checkpoint that the config asks for, and read it through.

    Raises:
        CheckpointError: the named checkpoint is damaged, or none of those that are there is whole.
    """
    run = cfg[RunControl]
    if isinstance(run.resume_from_checkpoint, str):
        return _named(Path(run.resume_from_checkpoint).expanduser(), cfg[Cadence].save_only_model)
    if not (run.resume_from_checkpoint or run.auto_resume_from_checkpoints):
        return Start()
    output_dir = Path(run.output_dir).expanduser()
    newest, skipped = checkpoints.newest_valid(output_dir, weights_alone=cfg[Cadence].save_only_model)
    if newest is None and skipped:
        lines = "".join(f"\n  {line}" for line in skipped)
        raise CheckpointError(f"No checkpoint in {output_dir} can be used:{lines}\n{_fresh(skipped)}{_anew(run)}")
    if newest is None and run.resume_from_checkpoint:
        raise CheckpointError(
            f"resume_from_checkpoint: there is no checkpoint in {output_dir}. Remove the key to start."
        )
    return Start(newest, tuple(skipped))


def _named(folder: Path, weights_alone: bool) -> Start:
    wrong = checkpoints.damage(folder, weights_alone=weights_alone)
    if wrong:
        newest, _ = checkpoints.newest_valid(folder.parent)
        other = f"The newest whole checkpoint there is {newest}." if newest else ""
        raise CheckpointError(
            f"resume_from_checkpoint: {folder} cannot be used: {'; '.join(wrong)}. {_fresh(wrong)}{other}".rstrip()
        )
    return Start(folder)


def _fresh(wrong: Iterable[str]) -> str:
    if not any(checkpoints.WEIGHTS_ALONE in line for line in wrong):
        return ""
    return "To go on from the weights with a fresh optimizer, set save_only_model: true. "


def _anew(run: RunControl) -> str:
    keys = "resume_from_checkpoint" if run.resume_from_checkpoint else "auto_resume_from_checkpoints"
    return f"To start anew, remove {keys} and set overwrite_output_dir: true, or choose another output_dir."


def check_same_run(start: Start, now: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint of a run that computed something else.

    Args:
        start: where the run begins.
        now: fingerprint of this run.

    Raises:
        CheckpointError: names what differs.
    """
    if start.checkpoint is None:
        return
    different = differences(checkpoints.read_json(start.checkpoint, checkpoints.FINGERPRINT), now)
    if start.split:
        different = [name for name in different if name not in ("micro_batch_size", "gradient_accumulation_steps")]
    if different:
        raise CheckpointError(
            f"{start.checkpoint} belongs to a run with other settings: {', '.join(different)}. "
            "Use the settings of that run, or start anew in another output_dir."
        )
