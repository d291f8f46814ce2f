"""From the plans to a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from newt.config.core import Batch, Cadence, Loader, RunControl
from newt.data.stream import Stream
from newt.extend import DataPlan, TrainPlan
from newt.support import env
from newt.support.errors import NewtError
from newt.support.log import note
from newt.training.arguments import training_arguments
from newt.training.batches import BatchSampler, Place
from newt.training.cadence import Steps
from newt.training.callbacks.finite import Finite
from newt.training.callbacks.flow import Flow
from newt.training.callbacks.metrics import Metrics
from newt.training.callbacks.progress import ShowProgress
from newt.training.fingerprint import fingerprint
from newt.training.inputs import Inputs
from newt.training.probe import Probe
from newt.training.streams import StreamSampler
from newt.training.trainer import NewtTrainer, Setup


def build_trainer(
    plan: TrainPlan, data_plan: DataPlan, loaded: Any, datasets: Any, trainer_class: type[NewtTrainer] = NewtTrainer
) -> NewtTrainer:
    """Make the trainer of a run.

    Args:
        plan: how to train.
        data_plan: how rows become batches.
        loaded: has ``model`` and ``tokenizer``.
        datasets: has ``train``: token rows with ``lengths``, or a stream, and ``eval``: token rows or None.
        trainer_class: a subclass, for methods that need one.

    Raises:
        NewtError: there is no batch to train on, or the cadence is impossible.
    """
    run = plan.cfg[RunControl]
    world = env.world_size()
    inputs = Inputs(data_plan, loaded.tokenizer, run.seed, plan.batches.get(), loaded.model.config.to_dict())
    sampler = make_sampler(inputs, datasets.train, plan, Place(env.rank(), world))
    steps = count_steps(plan, sampler)
    has_eval = datasets.eval is not None and len(datasets.eval) > 0
    # Questions of their own need no rows.
    asked = datasets.eval is None and bool(plan.evaluations)
    arguments = training_arguments(plan, steps, has_eval or asked)
    # Several GPUs in one process would make the trainer split batches by threads; a process has one GPU here.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    setup = Setup(
        plan=plan,
        inputs=inputs,
        sampler=sampler,
        fingerprint=fingerprint(plan.cfg, datasets.train, world),
        save_total_limit=plan.cfg[Cadence].save_total_limit,
    )
    flow = Flow(sampler, steps.per_epoch, setup.signals, plan.cfg[Cadence].save_first_step)
    # Metrics first: what the other callbacks stop at is then in the file.
    callbacks = [Metrics(Path(arguments.output_dir)), flow, *(make() for make in plan.callbacks)]
    trainer = trainer_class(
        model=loaded.model,
        args=arguments,
        setup=setup,
        train_dataset=datasets.train,
        eval_dataset=datasets.eval if has_eval else () if asked else None,
        processing_class=loaded.tokenizer,
        callbacks=[*callbacks, Finite(sampler, datasets.train, plan.cfg[Batch].accumulation), ShowProgress()],
        **plan.trainer_kwargs,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Probe(trainer))
    return trainer


def make_sampler(inputs: Inputs, data: Any, plan: TrainPlan, place: Place) -> BatchSampler | StreamSampler:
    """What gives the training batches of one rank: of token rows with ``lengths``, or of a stream."""
    if isinstance(data, Stream):
        return inputs.stream_sampler(data, (plan.cfg[RunControl].max_steps or 1) * plan.cfg[Batch].accumulation, place)
    sampler = inputs.train_sampler(data, drop_last=plan.cfg[Loader].dataloader_drop_last, place=place)
    if len(sampler) and sampler.left_out:
        note(f"dataloader_drop_last leaves out {sampler.left_out} of {sampler.samples} samples in every epoch.")
    return sampler


def count_steps(plan: TrainPlan, sampler: BatchSampler | StreamSampler) -> Steps:
    """The length of the run.

    Raises:
        NewtError: there is no whole batch.
    """
    batch, run = plan.cfg[Batch], plan.cfg[RunControl]
    if not len(sampler):
        raise NewtError(
            f"There is not one whole batch of {batch.micro} samples to train on. "
            "Lower micro_batch_size, or set dataloader_drop_last: false."
        )
    return Steps(len(sampler), batch.accumulation, run.num_epochs, run.max_steps)
