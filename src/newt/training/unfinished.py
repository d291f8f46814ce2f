"""What a stopped run had left to do at the step of its checkpoint: an evaluation that was due there."""

from __future__ import annotations

from typing import Any

from transformers import TrainingArguments
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import IntervalStrategy

from newt.support.log import note


def owes_evaluation(state: TrainerState, args: TrainingArguments, steps_per_epoch: int) -> bool:
    """Whether an evaluation is due at the state's step that its log does not have.

    A signal leaves it out, so that the checkpoint is written at once; and a run may be killed between a checkpoint and
    the evaluation after it.

    Args:
        state: of the run that goes on.
        args: its arguments.
        steps_per_epoch: optimizer steps.
    """
    if args.eval_strategy == IntervalStrategy.NO:
        return False
    interval = state.eval_steps if args.eval_strategy == IntervalStrategy.STEPS else steps_per_epoch
    if state.global_step % interval:
        return False
    return not any(line.get("step") == state.global_step and "eval_runtime" in line for line in state.log_history)


def make_up(trainer: Any, steps_per_epoch: int) -> None:
    """Evaluate where a run without an interruption had evaluated, with all that follows: the best step, early stopping.

    Args:
        trainer: a ``NewtTrainer`` that has loaded a checkpoint and not trained since.
        steps_per_epoch: optimizer steps.
    """
    if not owes_evaluation(trainer.state, trainer.args, steps_per_epoch):
        return
    note(f"The evaluation of step {trainer.state.global_step} was left out: it is made up for.")
    metrics = trainer._evaluate(None, None)
    trainer._determine_best_metric(metrics=metrics, trial=None)
    trainer._note_best()
