"""From the plan to ``transformers.TrainingArguments``."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from transformers import TrainingArguments

from newt.config.core import Batch, Cadence, Loader, RunControl
from newt.extend import TrainPlan
from newt.training.cadence import Steps, cadence_arguments

RENAMED = {
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
}
"""Newer name -> older name of the same argument, within the supported versions of transformers."""


def training_arguments(plan: TrainPlan, steps: Steps, has_eval: bool) -> TrainingArguments:
    """Everything that the trainer is told; what Parts put into ``plan.args`` comes last and wins.

    Args:
        plan: the plan.
        steps: length of the run.
        has_eval: there are evaluation rows.
    """
    arguments = {
        **_house(),
        **_run(plan.cfg[RunControl], steps),
        **_batch(plan.cfg[Batch]),
        **_loader(plan.cfg[Loader]),
        **cadence_arguments(plan.cfg[Cadence], steps, has_eval),
        **_best(plan.cfg[Cadence]),
        **plan.args,
    }
    return TrainingArguments(**in_this_version(arguments))


def in_this_version(arguments: dict[str, Any]) -> dict[str, Any]:
    """Use the names that the installed transformers prefers."""
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    renamed = dict(arguments)
    for new, old in RENAMED.items():
        wanted, other = (new, old) if new in fields else (old, new)
        if other in renamed:
            renamed[wanted] = renamed.pop(other)
    return renamed


def _house() -> dict[str, Any]:
    return {
        "use_cpu": not torch.cuda.is_available(),
        "remove_unused_columns": False,
        "report_to": "none",
        "disable_tqdm": True,
        # A loss that is not a number must be seen, not averaged away; looking at every loss also stalls the device.
        "logging_nan_inf_filter": False,
        # Checkpoints are written and deleted by us.
        "save_total_limit": None,
    }


def _run(run: RunControl, steps: Steps) -> dict[str, Any]:
    return {
        "output_dir": run.output_dir,
        "seed": run.seed,
        "data_seed": run.seed,
        "num_train_epochs": run.num_epochs,
        "max_steps": run.max_steps or -1,
        "max_grad_norm": 1.0 if run.max_grad_norm is None else run.max_grad_norm,
    }


def _batch(batch: Batch) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": batch.micro,
        "per_device_eval_batch_size": batch.eval_micro,
        "gradient_accumulation_steps": batch.accumulation,
    }


def _loader(loader: Loader) -> dict[str, Any]:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    workers = gpus if loader.dataloader_num_workers is None else loader.dataloader_num_workers
    pin = gpus > 0 if loader.dataloader_pin_memory is None else loader.dataloader_pin_memory
    return {
        "dataloader_num_workers": workers,
        "dataloader_pin_memory": pin,
        "dataloader_prefetch_factor": loader.dataloader_prefetch_factor if workers else None,
        "dataloader_drop_last": loader.dataloader_drop_last,
        "accelerator_config": loader.accelerator_config.arguments() if loader.accelerator_config else None,
    }


def _best(cadence: Cadence) -> dict[str, Any]:
    return {
        "save_only_model": cadence.save_only_model,
        "load_best_model_at_end": cadence.load_best_model_at_end,
        "metric_for_best_model": cadence.metric_for_best_model,
        "greater_is_better": cadence.greater_is_better,
    }
