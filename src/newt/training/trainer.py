"""One layer over ``transformers.Trainer``: the plan's loss, optimizer and batches, whole checkpoints, exact evaluation.

It may be mixed into other trainers of the same family (``class X(NewtTrainer, TheirTrainer)``). What it relies on
beyond the public interface is listed in :data:`PRIVATE`; a test compares the list with the installed version.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from newt.extend import LossFn, TrainPlan
from newt.losses.causal import trained_tokens
from newt.models.quiet import no_bars
from newt.models.tokenizer import save_tokenizer
from newt.support.errors import CheckpointError
from newt.support.files import atomic_dir, write_manifest
from newt.training import checkpoints
from newt.training.averaging import averaged, restore_point, save_point, settle
from newt.training.batches import TOKENS, BatchSampler, Place
from newt.training.callbacks.base import states_of
from newt.training.callbacks.finite import not_finite
from newt.training.callbacks.signals import Signals
from newt.training.combined import norm_in_backward
from newt.training.evaluate import further_metrics, sum_losses
from newt.training.inputs import Inputs
from newt.training.memory import evaluation_fits, peak_memory
from newt.training.speed import Stopwatch
from newt.training.streams import StreamSampler
from newt.training.unfinished import make_up
from newt.training.weights import load_weights

PRIVATE = {
    "_save_checkpoint": ("model", "trial"),
    "_save_optimizer_and_scheduler": ("output_dir",),
    "_save_scaler": ("output_dir",),
    "_save_rng_state": ("output_dir",),
    "_load_from_checkpoint": ("resume_from_checkpoint", "model"),
    "_load_best_model": (),
    "_prepare_input": ("data",),
    "_get_grad_norm": ("model", "grad_norm"),
    "_evaluate": ("trial", "ignore_keys_for_eval", "skip_scheduler"),
    "_determine_best_metric": ("metrics", "trial"),
    "_run_epoch": (
        *("model", "epoch", "train_dataloader", "steps_in_epoch", "num_update_steps_per_epoch", "trial"),
        *("ignore_keys_for_eval", "start_time", "resume_from_checkpoint", "epochs_trained"),
        "steps_trained_in_current_epoch",
    ),
}
"""Methods of the trainer that are called or replaced here, with their parameters."""


@dataclass
class Setup:
    """What a run brings along.

    Attributes:
        plan: loss, optimizer and schedule.
        inputs: makes the loaders.
        sampler: gives the training batches of this rank.
        fingerprint: identity of the run, kept in every checkpoint.
        save_total_limit: checkpoints to keep.
        signals: ask the run to stop.
    """

    plan: TrainPlan
    inputs: Inputs
    sampler: BatchSampler | StreamSampler
    fingerprint: dict[str, Any] = field(default_factory=dict)
    save_total_limit: int | None = None
    signals: Signals = field(default_factory=Signals)

    @property
    def loss(self) -> LossFn:
        """The loss that the method chose."""
        loss = self.plan.loss.get()
        assert loss is not None, "the method fills the loss slot"
        return loss


@dataclass
class Counts:
    """Tokens seen so far, over all ranks: without padding, and those that were trained."""

    total: int = 0
    trainable: int = 0


class NewtTrainer(Trainer):  # type: ignore[misc]
    """The trainer of every method that is our own."""

    optimizer: Any
    lr_scheduler: Any
    control: Any
    model_wrapped: Any

    def __init__(self, *args: Any, setup: Setup, **kwargs: Any) -> None:
        """Take the arguments of ``transformers.Trainer`` and a setup."""
        self.setup = setup
        self.counts = Counts()
        self.stopwatch = Stopwatch()
        self.loss_sum: Tensor | None = None
        self.begin(0, 0.0)
        self.parameters: int | None = None
        super().__init__(*args, **kwargs)
        # The loss is divided by the tokens of the whole step, so the trainer must not divide by the accumulation.
        self.model_accepts_loss_kwargs = True
        setup.signals.alone = self.args.world_size == 1

    # ------------------------------------------------------------------ data

    def _loader_options(self) -> dict[str, Any]:
        workers = self.args.dataloader_num_workers
        options = {"num_workers": workers, "pin_memory": self.args.dataloader_pin_memory}
        if workers and self.args.dataloader_prefetch_factor:
            options["prefetch_factor"] = self.args.dataloader_prefetch_factor
        return options

    def get_train_dataloader(self) -> Any:
        """The batches of this rank; accelerate need not know of them."""
        return self.setup.inputs.train_loader(self.train_dataset, self.setup.sampler, **self._loader_options())

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """This rank's part of the evaluation rows."""
        return self.setup.inputs.eval_loader(
            self.eval_dataset if eval_dataset is None else eval_dataset,
            place=Place(self.args.process_index, self.args.world_size),
            **self._loader_options(),
        )

    def _prepare_input(self, data: Any) -> Any:
        """Move a tensor to the device, if wanted while it still computes."""
        if isinstance(data, Tensor) and self.args.accelerator_config.non_blocking:
            data = data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Tensor]:
        """The micro-batches of an optimizer step, and the number of trained tokens in it over all ranks.

        Ranks also agree here whether one of them got a signal: it is the one exchange that every step has.
        """
        self.stopwatch.start(self.counts.total, self.counts.trainable)
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        if isinstance(self.setup.sampler, StreamSampler):
            self.setup.sampler.take(batches)
        items = sum((self.count_items(batch) for batch in batches), torch.zeros((), dtype=torch.int64))
        tokens = sum(batch.pop(TOKENS, 0) for batch in batches)
        numbers = torch.stack([items, torch.tensor(tokens), torch.tensor(int(self.setup.signals.received is not None))])
        if self.args.world_size > 1:
            numbers = self.accelerator.reduce(numbers.to(device), "sum").cpu()
            self.setup.signals.agreed = bool(numbers[2])
        self.counts.trainable += int(numbers[0])
        self.counts.total += int(numbers[1])
        return batches, numbers[0].clamp(min=1).to(device)

    def count_items(self, batch: dict[str, Any]) -> Tensor:
        """What the loss of a batch is a sum over: its trained tokens."""
        return trained_tokens(batch)

    def begin(self, step: int, seconds: float) -> None:
        """Start the clock of a part of the run.

        Args:
            step: optimizer steps that are done.
            seconds: what the parts before it took.
        """
        self.finite, self.began = step, time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """What all parts of the run have taken so far."""
        return round(time.perf_counter() - self.began, 1)

    # ------------------------------------------------------------------ step

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The plan's loss. Data parallelism averages gradients over ranks, so the sum is scaled up by their number."""
        loss = self.setup.loss(model, inputs, 1 if num_items_in_batch is None else num_items_in_batch)
        loss = loss * self.args.world_size
        self.loss_sum = loss.detach() if self.loss_sum is None else self.loss_sum + loss.detach()
        return (loss, None) if return_outputs else loss

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """An epoch; the first one after a resume begins with what its checkpoint's run had left to do."""
        if kwargs["epoch"] == kwargs["epochs_trained"] and self.state.global_step:
            make_up(self, kwargs["num_update_steps_per_epoch"])
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def create_optimizer(self, model: Any = None) -> Any:
        """The plan's optimizer, else the one that the arguments name."""
        make = self.setup.plan.optimizer.get() or self._grouped()
        if make is None:
            return super().create_optimizer(*(() if model is None else (model,)))
        if self.optimizer is None:
            self.optimizer = make(self.model if model is None else model)
        return self.optimizer

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Norm of all gradients of a step; where they were used in the backward pass, the one taken there."""
        if all(parameter.grad is None for parameter in model.parameters()):
            return norm_in_backward(self.optimizer, model)
        return super()._get_grad_norm(model, grad_norm=grad_norm)

    def _grouped(self) -> Callable[[Any], Any] | None:
        """Makes the optimizer that the arguments name, with the plan's parameter groups."""
        groups = self.setup.plan.groups.get()
        if groups is None:
            return None

        def make(model: Any) -> Any:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            return kind(groups(model, set(self.get_decay_parameter_names(model))), **options)

        return make

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The plan's schedule, else the one that the arguments name."""
        make = self.setup.plan.schedule.get()
        if make is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = make(self.optimizer if optimizer is None else optimizer, num_training_steps)
        return self.lr_scheduler

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """6 x parameters x tokens; the parameters are counted once, not in every micro-batch."""
        if self.parameters is None:
            self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return 6 * self.parameters * int(inputs["input_ids"].numel())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add token counts, throughput and memory to what is logged of training."""
        if "loss" in logs:
            if isinstance(self.setup.sampler, StreamSampler):
                logs.update(self.setup.sampler.log())
            logs["tokens"], logs["trained_tokens"] = self.counts.total, self.counts.trainable
            logs.update(self.stopwatch.log(self.counts.total, self.counts.trainable, self.model, self.args))
            logs["memory_gib"] = round(peak_memory(self.args.device) / 2**30, 3)
        super().log(logs, *(() if start_time is None else (start_time,)))

    # ------------------------------------------------------------------ evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss of a trained token over the evaluation rows, the same for every batch size and packing."""
        begin = time.perf_counter()
        with self.stopwatch.pause(), averaged(self.optimizer, self.model), evaluation_fits():
            metrics = self._mean_loss(eval_dataset)
            metrics.update(further_metrics(self))
        metrics["runtime"] = round(time.perf_counter() - begin, 3)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _mean_loss(self, eval_dataset: Any) -> dict[str, float]:
        """Loss and number of trained tokens; nothing when there are no rows, only questions of their own."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if not len(rows):
            return {}
        loader = self.get_eval_dataloader(eval_dataset)
        total, count = sum_losses(self._evaluated_model(), loader, self.setup.loss, self._prepare_inputs)
        if self.args.world_size > 1:
            both = torch.stack([total, count.double()]).to(self.args.device)
            total, count = self.accelerator.reduce(both, "sum").cpu()
        return {"loss": (total / count).item() if count else math.nan, "tokens": int(count)}

    def _evaluated_model(self) -> Any:
        """The wrapped model while training; before, one that is on its device and computes in the run's format."""
        if not self.is_in_train and self.model_wrapped is self.model:
            self.model_wrapped = self.accelerator.prepare_model(self.model.to(self.args.device), evaluation_mode=True)
        return self.model_wrapped

    # ------------------------------------------------------------------ checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint that is whole or absent, then delete the ones that are too many.

        Raises:
            NewtError: the loss is no longer a number: such weights would push out good ones.
        """
        self._check_finite()
        self.store_flos()
        output_dir = Path(self.args.output_dir)
        best = self.state.best_model_checkpoint
        if self.args.should_save:
            checkpoints.make_room(output_dir, self.setup.save_total_limit, Path(best) if best else None)
        final = output_dir / checkpoints.name_of(self.state.global_step)
        with self.stopwatch.pause():
            with self._shared(atomic_dir(final) if self.args.should_save else nullcontext()) as folder:
                self._write_checkpoint(folder)
            self._barrier()
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            checkpoints.prune(output_dir, self.setup.save_total_limit, Path(best) if best else None)

    def _write_checkpoint(self, folder: Path) -> None:
        with no_bars(), averaged(self.optimizer, self.model) as point:
            self.save_model(str(folder), _internal_call=True)
            if self.args.should_save and self.setup.plan.cfg.value("tokenizer_save_jinja_files") is False:
                save_tokenizer(self.processing_class, folder, self.setup.plan.cfg)
        for part in self.setup.plan.stored if self.args.should_save else ():
            part.save(self.model, folder)
        if not self.args.save_only_model or self.setup.signals.due:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
            if self.args.should_save:
                save_point(point, folder)
        self._barrier()
        if not self.args.should_save:
            return
        self._note_best()
        self.state.stateful_callbacks = states_of([*self.callback_handler.callbacks, self.control])
        self.state.save_to_json(str(folder / checkpoints.STATE))
        (folder / checkpoints.TOKENS).write_text(json.dumps({**vars(self.counts), "seconds": self.seconds}))
        if isinstance(self.setup.sampler, StreamSampler):
            (folder / checkpoints.STREAM).write_text(json.dumps(self.setup.sampler.state()))
        (folder / checkpoints.FINGERPRINT).write_text(json.dumps(self.setup.fingerprint, indent=1))
        # The same as text: nobody has to unpickle a file to see the arguments, and tokens are left out of it.
        (folder / "training_args.bin").unlink(missing_ok=True)
        (folder / "training_args.json").write_text(self.args.to_json_string())
        write_manifest(folder)

    @contextmanager
    def _shared(self, own: Any) -> Iterator[Path]:
        """Let all ranks write into the folder that the saving one opens."""
        with own as folder:
            if self.args.world_size == 1:
                yield folder
                return
            names = [str(folder) if folder else None]
            torch.distributed.broadcast_object_list(names, src=0)
            yield Path(str(names[0]))

    def _barrier(self) -> None:
        if self.args.world_size > 1:
            torch.distributed.barrier()

    def _note_best(self) -> None:
        step = self.state.best_global_step
        if not step:
            return
        best = Path(self.args.output_dir) / checkpoints.name_of(step)
        if step == self.state.global_step or best.is_dir():
            self.state.best_model_checkpoint = str(best)

    def _check_finite(self) -> None:
        value = 0.0 if self.loss_sum is None else float(self.loss_sum)
        self.loss_sum = None
        if not math.isfinite(value):
            raise not_finite("loss", value, self.finite + 1, self.state.global_step, Path(self.args.output_dir))
        self.finite = self.state.global_step

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights exactly, and the token counts."""
        counts = checkpoints.read_json(Path(resume_from_checkpoint), checkpoints.TOKENS)
        self.counts = Counts(counts["total"], counts["trainable"])
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_exactly(self.model if model is None else model, Path(resume_from_checkpoint))
            restore_point(self.model if model is None else model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """Load the weights of the checkpoint that evaluated best."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            settle(self.optimizer)
            self._load_exactly(self.model, Path(self.state.best_model_checkpoint))

    def _load_exactly(self, model: Any, folder: Path) -> None:
        try:
            load_weights(model, folder)
            for part in self.setup.plan.stored:
                part.load(model, folder)
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be used: {error}") from error
