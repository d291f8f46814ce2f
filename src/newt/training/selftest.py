"""Tries of a run's fast paths on its own model: none of them may change what is trained.

Each try computes the loss and the gradients of the same few short rows twice, in the plain and in the fast way, without
dropout, and compares them.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from newt.config.section import Config
from newt.data.rows import IGNORE
from newt.extend import LossFn
from newt.losses.head import base_of
from newt.models.generate import mixed_precision
from newt.training.checkpoints import name_of
from newt.training.fit import fit
from newt.training.resume import Start
from newt.training.subject import FULL, Result, Subject, set_aside_compiled, stir, without_dropout
from newt.training.trainer import NewtTrainer

LEAK = {torch.float32: 1e-6}
"""Largest relative change of a sample's loss when its neighbour in a packed row is another: rounding, and no more."""

NOISE = 1e-3
"""The same in 16 bits."""

MOST = 0.9
"""Share of the rows that must end with a stop token."""

REFUSALS = (ValueError, NotImplementedError, ImportError, RuntimeError, TypeError)
"""How models say that they do not run with an attention implementation."""


def skipped(name: str, why: str) -> Result:
    """A try that has nothing to do here."""
    return Result(name, None, note=why)


def try_accumulation(subject: Subject) -> Result:
    """All rows in one micro-batch, against a micro-batch for each."""
    name = "gradient accumulation"
    if len(subject.rows) < 2:
        return skipped(name, "there is only one row")
    found = subject.measure(subject.separate(*([[row]] for row in subject.rows)))
    return subject.compare(name, found, f"1 and {len(subject.rows)} micro-batches of {subject.tokens} tokens")


def try_packing(subject: Subject) -> Result:
    """Rows apart, against rows that share one."""
    name, plan = "packing", subject.trainer.setup.inputs.plan
    if not plan.pack and not plan.flatten:
        return skipped(name, "sample_packing is off")
    if plan.collate:
        return skipped(name, f"{plan.collate.by} makes its own batches")
    if plan.join:
        return skipped(name, "texts are joined: they are meant to see each other")
    if len(subject.rows) < 2:
        return skipped(name, "there is only one row")
    packed = bool(plan.pack)
    result = subject.compare(name, subject.measure(subject.together(subject.rows, packed=packed)))
    leak, allowed = _leak(subject, packed), LEAK.get(subject.dtype, NOISE)
    note = f"another neighbour changes a sample's loss by {leak:.1e} (allowed {allowed:.0e})"
    return Result(name, result.passed and leak <= allowed, result.loss, result.gradient, result.tolerance, note)


def _leak(subject: Subject, packed: bool) -> float:
    """Relative change of the last row's loss when those before it in the same row have other tokens."""
    *before, last = subject.rows
    quiet = [{**row, "labels": np.full_like(row["labels"], IGNORE)} for row in before]
    others = [{**row, "input_ids": row["input_ids"][::-1].copy()} for row in quiet]
    one, other = (subject.value(subject.together([*rows, last], packed=packed)) for rows in (quiet, others))
    return abs(one - other) / max(abs(one), 1e-12)


def try_loss(subject: Subject, plain: LossFn | None, why: str = "") -> Result:
    """The run's loss, against the same one from the model's logits.

    Args:
        subject: what is tried.
        plain: the loss from the logits; None where the run's loss is another function.
        why: the reason for that.
    """
    name = "loss without logits"
    if plain is None:
        return skipped(name, why)
    return subject.compare(name, subject.reference, wanted=subject.measure(_all_apart(subject), plain))


def try_attention(subject: Subject) -> Result:
    """The run's attention, against the plain one."""
    name, base = "attention", base_of(subject.model)
    used = getattr(base.config, "_attn_implementation", None)
    if used in (None, "eager"):
        return skipped(name, f"{used or 'the model'} is the plain one")
    try:
        base.set_attn_implementation("eager")
        plain = subject.measure(_all_apart(subject))
    except REFUSALS as error:
        return skipped(name, f"the model does not run with eager attention: {' '.join(str(error).split())[:100]}")
    finally:
        base.set_attn_implementation(used)
    return subject.compare(name, subject.reference, f"{used} and eager", plain)


def try_checkpointing(subject: Subject) -> Result:
    """Activations that are computed again, against those that are kept."""
    name, args = "gradient checkpointing", subject.trainer.args
    if not args.gradient_checkpointing:
        return skipped(name, "gradient_checkpointing is off")
    enable, disable = _switches(subject.trainer.model)
    enable(args.gradient_checkpointing_kwargs)
    try:
        found = subject.measure(_all_apart(subject))
    finally:
        disable()
    return subject.compare(name, found)


def _switches(model: Any) -> tuple[Callable[..., None], Callable[[], None]]:
    """What switches gradient checkpointing on and off, by its newer name where the model has it."""
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    return getattr(model, f"{kind}_checkpointing_enable"), getattr(model, f"{kind}_checkpointing_disable")


def try_compile(subject: Subject, seconds: float) -> Result:
    """Compiled layers, against layers as they are written.

    Args:
        subject: what is tried.
        seconds: compiling and computing may take so long.
    """
    name = "torch.compile"
    if not subject.compiled:
        return skipped(name, "torch_compile is off")
    for part, call in subject.compiled.items():
        part._compiled_call_impl = call
    try:
        with time_limit(seconds):
            found = subject.measure(_all_apart(subject))
    except OutOfTime:
        torch._dynamo.reset()
        return skipped(name, f"not checked: took longer than {seconds:g} s; --compile-seconds lets it take longer")
    except RuntimeError as error:  # what torch makes of a compiler that fails or is missing
        return Result(name, False, note=f"does not compile: {' '.join(str(error).split())[:100]}")
    finally:
        set_aside_compiled(subject.model)
    return subject.compare(name, found, f"{len(subject.compiled)} layers")


class OutOfTime(BaseException):
    """A time limit is over. No ``Exception``: torch falls back to other ways after some of those."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` in a block that takes longer.

    Only the main thread can be interrupted, and no call into a library: elsewhere the block takes what it takes.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    # Again after each further second: in a finalizer an exception is only printed.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _all_apart(subject: Subject) -> list[dict[str, Any]]:
    return subject.separate([[row] for row in subject.rows])


def tries(subject: Subject, plain: LossFn | None, why: str, seconds: float) -> Iterator[Result]:
    """Every try that needs one model only, in order. See :func:`try_loss` and :func:`try_compile`."""
    yield try_accumulation(subject)
    yield try_packing(subject)
    yield try_loss(subject, plain, why)
    yield try_attention(subject)
    yield try_checkpointing(subject)
    yield try_compile(subject, seconds)


def try_stop(data: Any, stops: set[int], longest: int, names: Callable[[int], str], looked_at: int = 300) -> Result:
    """Whether the last trained token of a row is one at which the model stops.

    Args:
        data: token rows.
        stops: ids at which generation ends.
        longest: ``sequence_len``; rows of this length may be cut off, and are left out.
        names: text of an id.
        looked_at: how many rows are looked at, at most.
    """
    name, last = "stop token is trained", []
    for number in range(0, len(data), max(1, len(data) // looked_at)):
        row = data[number]
        trained = np.flatnonzero(np.asarray(row["labels"])[1:] != IGNORE)
        if len(trained) and len(row["input_ids"]) < longest:
            last.append(int(row["input_ids"][1 + int(trained[-1])]))
    if not last:
        return skipped(name, "every row may be cut off at sequence_len")
    good = sum(token in stops for token in last)
    wanted = " or ".join(sorted(repr(names(stop)) for stop in stops)) or "(none is known)"
    note = f"{good} of {len(last)} rows end with {wanted}"
    if good < len(last):
        others = [token for token in last if token not in stops]
        note += f"; others end with {names(max(set(others), key=others.count))!r}"
    return Result(name, good >= MOST * len(last), note=note)


# --------------------------------------------------------------------------- tries that train


Made = Callable[[], NewtTrainer]
"""Makes the trainer of a run of two short steps that saves after each, with a freshly loaded model."""


def try_resume(make: Made, cfg: Config) -> tuple[Result, NewtTrainer]:
    """Two steps, against one step and a second that goes on from the checkpoint; and the trainer of the latter.

    On a GPU sums are not always in the same order: there two straight runs say how much may differ.

    Args:
        make: makes the trainer, its model freshly loaded.
        cfg: the config of the run; its ``output_dir`` is used up.
    """
    first = make()
    folder = Path(first.args.output_dir)
    straight = _weights_of(first, cfg, Start())
    noise, cuda = 0.0, first.args.device.type == "cuda"
    del first
    gc.collect()
    if cuda:
        noise = _farthest(straight, _weights_of(make(), cfg, Start()))
    second = make()
    apart = _farthest(straight, _weights_of(second, cfg, Start(folder / name_of(1))))
    note = "bit-identical" if not apart else f"weights differ by up to {apart:.1e}"
    return Result("resume", apart <= noise, gradient=None, loss=None, note=note), second


def _weights_of(trainer: NewtTrainer, cfg: Config, start: Start) -> dict[str, Tensor]:
    fit(trainer, cfg, start)
    return {name: p.detach().cpu().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def _farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference of two sets of weights; infinite where they are not of the same parameters."""
    if one.keys() != other.keys():
        return float("inf")
    apart = (float((value.float() - other[name].float()).abs().max()) for name, value in one.items() if value.numel())
    return max(apart, default=0.0)


def try_reload(trainer: NewtTrainer, rows: Sequence[Any], save: Callable[[Any], Any], what: str) -> Result:
    """The logits of the trained model, against those of what is saved and loaded again.

    Args:
        trainer: has been trained.
        rows: of ``subject.short_rows``.
        save: saves the model that it is given, and gives it loaded again, in evaluation mode.
        what: ``adapter`` or ``model``.
    """
    name = f"saved {what}"
    with _plain(trainer) as model:
        if what == "adapter":
            stir(model)
        ids = torch.tensor(rows[0]["input_ids"].tolist(), device=trainer.args.device)[None]
        with mixed_precision(model):
            wanted = model(input_ids=ids, use_cache=False).logits.float().cpu()
        other = save(model)
        with mixed_precision(other):
            found = other(input_ids=ids.to(next(other.parameters()).device), use_cache=False).logits.float().cpu()
    apart = float((wanted - found).norm() / wanted.norm())
    half = any(p.dtype in (torch.bfloat16, torch.float16) for p in model.parameters())
    allowed = NOISE if half else FULL[0]
    return Result(name, apart <= allowed, note=f"logits differ by {apart:.1e} (allowed {allowed:.0e})")


@contextmanager
def _plain(trainer: NewtTrainer) -> Iterator[Any]:
    """The model in evaluation mode, without what mixed precision puts around its forward pass."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    without_dropout(model)
    model.eval()
    set_aside_compiled(model)
    with torch.no_grad():
        yield model
