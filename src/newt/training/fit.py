"""A run from its first step to its last, and everything that may come between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from newt.config.core import RunControl
from newt.config.section import Config
from newt.support.errors import NewtError
from newt.support.log import note, warn
from newt.training import checkpoints
from newt.training.callbacks.advance import Advance
from newt.training.callbacks.metrics import NAME as METRICS
from newt.training.callbacks.progress import ShowProgress
from newt.training.memory import DoesNotFitError, advice
from newt.training.outputs import room_needed
from newt.training.record import Record
from newt.training.resume import Start, check_same_run, find_start
from newt.training.streams import StreamSampler
from newt.training.trainer import NewtTrainer


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        global_step: optimizer steps that are done, over all parts of the run.
        train_loss: mean loss of the steps of this part; None without any.
        metrics: the last evaluation.
        before: the evaluation before the first step.
        stopped_by: the signal that ended the run early, such as SIGTERM, or None.
        checkpoint: the newest checkpoint.
    """

    global_step: int
    train_loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    stopped_by: str | None = None
    checkpoint: Path | None = None


def fit(trainer: NewtTrainer, cfg: Config, start: Start | None = None, datasets: Any = None) -> Outcome:
    """Train, and record it.

    Args:
        trainer: what to train.
        cfg: the config.
        start: where to begin; default: what the config says.
        datasets: data of the run, for the record.

    Raises:
        CheckpointError: the checkpoint is damaged or of another run.
        NewtError: the loss is no longer a number.
    """
    start = find_start(cfg) if start is None else start
    check_same_run(start, trainer.setup.fingerprint)
    if trainer.args.should_save:
        _make_room(cfg, start)
    record = Record(Path(trainer.args.output_dir), cfg, datasets, trainer.model)
    _write(trainer, lambda: record.start(start.step, start.seconds))
    trainer.begin(start.step, start.seconds)
    try:
        with room_needed(Path(trainer.args.output_dir)):
            outcome = _train(trainer, start)
    except NewtError as error:
        failed = {"error": str(error), "global_step": trainer.state.global_step}
        _write(trainer, lambda: record.end(failed))
        raise
    finally:
        _close(trainer)
    _write(trainer, lambda: record.end(_result(outcome)))
    return outcome


def _write(trainer: NewtTrainer, write: Any) -> None:
    if trainer.args.should_save:
        write()


def _make_room(cfg: Config, start: Start) -> None:
    """Remove what the run would otherwise mix with: another run's checkpoints, and those after the point of resume."""
    output_dir = Path(cfg[RunControl].output_dir).expanduser()
    for line in start.skipped:
        kind = "" if checkpoints.WEIGHTS_ALONE in line else "damaged "
        note(f"Skipped a {kind}checkpoint: {line}")
    if start.checkpoint is not None:
        note(f"Going on from {start.checkpoint} (step {start.step})")
        if start.checkpoint.resolve().parent == output_dir.resolve():
            checkpoints.remove_newer(output_dir, start.step)
    elif cfg[RunControl].overwrite_output_dir:
        checkpoints.remove_newer(output_dir, -1)
        (output_dir / METRICS).unlink(missing_ok=True)


def _train(trainer: NewtTrainer, start: Start) -> Outcome:
    total = planned_steps(trainer)
    if start.checkpoint is not None and start.step >= total:
        note(f"All {total} steps are done already. Raise num_epochs or max_steps to go on.")
        trainer._load_from_checkpoint(str(start.checkpoint))
        state = checkpoints.read_json(start.checkpoint, checkpoints.STATE)
        return _outcome(trainer, state["global_step"], None, state["log_history"], start.checkpoint)
    if start.checkpoint is not None:
        if isinstance(trainer.setup.sampler, StreamSampler):
            stored = checkpoints.read_json(start.checkpoint, checkpoints.STREAM)
            trainer.setup.sampler.resume(stored, start.step * trainer.args.gradient_accumulation_steps)
        else:
            per_epoch = -(-len(trainer.setup.sampler) // trainer.args.gradient_accumulation_steps)
            trainer.setup.sampler.skip(start.step % per_epoch * trainer.args.gradient_accumulation_steps)
        if start.weights_alone:
            why = "holds weights alone (save_only_model): the optimizer and the random numbers begin anew."
            warn(f"{start.checkpoint} {why}")
            trainer.add_callback(Advance())
        # It was evaluated before its first step, and at the checkpoint if that was due.
        trainer.args.eval_on_start = False
    # Whatever was drawn since the trainer was made must not change the run; a resume puts its own state back.
    set_seed(trainer.args.seed)
    with trainer.setup.signals.caught(), _steps_fit(trainer):
        done = trainer.train(resume_from_checkpoint=str(start.checkpoint) if start.checkpoint else None)
    newest = next(reversed(checkpoints.all_checkpoints(Path(trainer.args.output_dir))), None)
    return _outcome(trainer, done.global_step, done.training_loss, trainer.state.log_history, newest)


@contextmanager
def _steps_fit(trainer: NewtTrainer) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        message = f"Step {trainer.state.global_step + 1} does not fit into the memory. {advice(trainer.setup.plan.cfg)}"
        raise DoesNotFitError(message, rows_follow=trainer.setup.inputs.rows_follow_micro) from error


def planned_steps(trainer: NewtTrainer) -> int:
    """Optimizer steps of the whole run."""
    return int(trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1])


def _outcome(
    trainer: NewtTrainer, step: int, loss: float | None, history: list[dict[str, Any]], newest: Path | None
) -> Outcome:
    evaluations = [entry for entry in history if "eval_runtime" in entry]
    before = next((entry for entry in evaluations if entry["step"] == 0), {})
    after = [entry for entry in evaluations if entry["step"] > 0]
    early = step < planned_steps(trainer)
    return Outcome(
        global_step=step,
        train_loss=loss,
        metrics=_numbers(after[-1] if after else {}),
        before=_numbers(before),
        stopped_by=trainer.setup.signals.name if early else None,
        checkpoint=newest,
    )


def _numbers(entry: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in entry.items() if key.startswith("eval_")}


def _result(outcome: Outcome) -> dict[str, Any]:
    result = asdict(outcome)
    result["eval"] = result.pop("metrics")
    return result


def _close(trainer: NewtTrainer) -> None:
    """Give the terminal back, also after an error."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, ShowProgress):
            callback.stop()
