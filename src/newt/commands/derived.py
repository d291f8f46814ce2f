"""Numbers that no key holds: what a config comes to, and by which rule. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from newt.config.core import Batch, Cadence, Data, RunControl
from newt.extend import Feature
from newt.features.lora import LoraSettings
from newt.features.packing import Packing
from newt.features.precision import Precision
from newt.features.schedules import Schedules, ScheduleSettings
from newt.run import Run
from newt.support import env


class Derived(NamedTuple):
    """One of them.

    Attributes:
        name: what it is.
        value: its value.
        rule: how it comes about.
    """

    name: str
    value: Any
    rule: str


def derive(run: Run) -> Iterator[Derived]:
    """Everything that is computed from the keys, the machine and the model's config.json."""
    yield from _parts(run)
    yield from _batch(run)
    yield from _numbers(run)
    yield from _steps(run)
    settings = run.cfg[LoraSettings]
    if settings.adapter and settings.lora_r and settings.lora_alpha:
        root = bool(settings.peft_use_rslora)
        value = settings.lora_alpha / (settings.lora_r**0.5 if root else settings.lora_r)
        yield Derived("adapter scale", round(value, 6), "lora_alpha / " + ("sqrt(lora_r)" if root else "lora_r"))


def processes(run: Run) -> tuple[int, str]:
    """How many training processes there would be, and why."""
    if env.launched():
        return env.world_size(), "as the launcher set it"
    if run.facts.gpus > 1:
        return run.facts.gpus, "one for each GPU, with a launcher"
    return 1, "one process"


def _parts(run: Run) -> Iterator[Derived]:
    yield Derived("method", run.method.name, "the keys of a method select it; else sft")
    family = run.family.name if run.family else None
    kind = run.facts.model_type
    yield Derived("model family", family, f"model_type {kind} in config.json" if kind else "config.json was not found")
    yield Derived("features", [feature.name for feature in run.features], "those whose keys switch them on")


def _batch(run: Run) -> Iterator[Derived]:
    batch = run.cfg[Batch]
    world, why = processes(run)
    yield Derived("processes", world, why)
    yield Derived("micro batch", batch.micro, "micro_batch_size, else 1")
    rule = "batch_size / micro_batch_size" if batch.batch_size else "gradient_accumulation_steps, else 1"
    yield Derived("gradient accumulation", batch.accumulation, rule)
    size = batch.global_size(world)
    rule = f"{batch.micro} x {batch.accumulation} x {world}: micro batch x gradient accumulation x processes"
    yield Derived("global batch", size, rule)
    packed = "packed rows" if _has(run, Packing) else "rows"
    yield Derived("tokens of a step", size * batch.sequence_len, f"at most: global batch x sequence_len, in {packed}")
    yield Derived("evaluation batch", batch.eval_micro, "eval_batch_size, else micro batch")
    yield Derived("evaluation length", batch.eval_length, "eval_sequence_len, else sequence_len")


def _numbers(run: Run) -> Iterator[Derived]:
    precision = _find(run, Precision)
    if precision is not None:
        yield Derived("precision", precision.kind(), _why_precision(run))
    kwargs = run.load_plan().kwargs
    yield Derived("weights", kwargs.get("dtype"), f"chosen by {kwargs.by.get('dtype', 'the model')}")
    attention = kwargs.get("attn_implementation") or "the model's own choice"
    yield Derived("attention", attention, "attn_implementation, or an older flag of it")
    procs = run.cfg[Data].dataset_num_proc
    yield Derived("data processes", procs or env.num_proc(), "dataset_num_proc, NEWT_DATASET_NUM_PROC, else the cores")


def _why_precision(run: Run) -> str:
    facts = run.facts
    if facts.gpus and facts.capability:
        return f"bf16, fp16, float32 ..., and compute capability {facts.capability[0]}.{facts.capability[1]}"
    native = "computes" if facts.cpu_bf16 else "does not compute"
    return f"bf16, fp16, float32 ..., and a CPU that {native} in bfloat16"


def _steps(run: Run) -> Iterator[Derived]:
    steps = run.cfg[RunControl].max_steps
    yield from _often(run)
    schedule = _find(run, Schedules)
    if schedule is None:
        return
    settings = run.cfg[ScheduleSettings]
    if settings.warmup_steps is not None:
        yield Derived("warm-up steps", settings.warmup_steps, "warmup_steps")
        return
    ratio = settings.warmup_ratio
    rule = f"warmup_ratio {ratio:g} of the steps, rounded up" if ratio is not None else "3 % of the steps, at most 100"
    yield Derived("warm-up steps", schedule.warmup(steps) if steps else None, rule)
    if steps:
        shown = run.cfg[Cadence].logging_steps or min(max(int(0.005 * steps), 1), 10)
        yield Derived("logging steps", shown, "logging_steps, else 0.5 % of the steps between 1 and 10")


def _often(run: Run) -> Iterator[Derived]:
    """How often it is saved and evaluated, where that is said for an epoch and the steps follow from the data."""
    cadence, epochs = run.cfg[Cadence], run.cfg[RunControl].num_epochs
    for name, key in (("saved every", "saves_per_epoch"), ("evaluated every", "evals_per_epoch")):
        number = getattr(cadence, key)
        if number and not run.cfg[RunControl].max_steps:
            rule = f"a share of all steps: 1 / ({key} {number} x num_epochs {epochs:g})"
            yield Derived(name, 1 / (number * epochs), rule)


def _find(run: Run, kind: type[Any]) -> Any:
    return next((feature for feature in run.features if isinstance(feature, kind)), None)


def _has(run: Run, kind: type[Feature]) -> bool:
    return _find(run, kind) is not None
