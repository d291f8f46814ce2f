"""newt plot-schedule: the learning rate of each group of parameters at every step, without loading the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from newt.commands.options import config_command

if TYPE_CHECKING:
    from newt.run import Run


@config_command("plot-schedule")
@click.option("--steps", type=click.IntRange(min=1), help="Length of the run. Default: what the config and data give.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Also write a .svg, .html or .png.")
def command(config: str, overrides: dict[str, Any], steps: int | None, output: Path | None) -> None:
    """Draw the learning rate of each group of parameters over the steps."""
    from newt.commands.shared import open_run
    from newt.report.schedule import render, write
    from newt.support.log import say

    if output and output.suffix not in (".svg", ".html", ".png"):
        raise click.UsageError(f"--output {output}: the name must end in .svg, .html or .png.")
    run = open_run(config, overrides, data=steps is None)
    total = steps or planned_steps(run)
    rates = rates_of(run, total)
    say(render(rates))
    if output:
        write(rates, output)
        say(f"The curve is in {output}")


def planned_steps(run: Run) -> int:
    """Optimizer steps of the run: ``max_steps``, else from the prepared data."""
    from newt.config.core import RunControl

    given = run.cfg[RunControl].max_steps
    if given:
        return given
    from newt.commands.steps import prepare_data
    from newt.support import env
    from newt.training.batches import Place
    from newt.training.build import count_steps, make_sampler
    from newt.training.inputs import Inputs

    tokenizer, datasets = prepare_data(run)
    plan = run.train_plan()
    inputs = Inputs(run.data_plan(), tokenizer, run.cfg[RunControl].seed, plan.batches.get(), run.facts.model)
    sampler = make_sampler(inputs, datasets.train, plan, Place(env.rank(), env.world_size()))
    return count_steps(plan, sampler).total


def peaks(run: Run) -> dict[str, float]:
    """Group -> its peak learning rate, from the keys alone."""
    value = run.cfg.value
    base = float(value("learning_rate"))
    ratio = value("loraplus_lr_ratio")
    if ratio:
        return {"A": base, "B": base * ratio, "embedding": value("loraplus_lr_embedding")}
    found = {group.name: group.lr for group in value("lr_groups") or ()}
    if value("embedding_lr") or value("embedding_lr_scale"):
        found["embeddings"] = value("embedding_lr") or base * value("embedding_lr_scale")
    if value("optimizer") == "dion" and value("dion_lr"):
        found["matrices"] = value("dion_lr")
    return {**found, "all others" if found else "all": base}


def rates_of(run: Run, steps: int) -> dict[str, list[float]]:
    """Learning rate of each group at each of ``steps`` steps, made by the schedule of the run itself.

    Raises:
        NewtError: the schedule follows the evaluations.
    """
    import torch

    from newt.support.errors import NewtError
    from newt.training.schedules import MEASURED

    name = run.cfg.value("lr_scheduler")
    if name in MEASURED:
        raise NewtError(f"lr_scheduler: {name} follows the evaluations: there is no curve before the run.")
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks(run).values()]
    # Some schedules have bounds that are rates: they ask the optimizer for the peak that these belong to.
    optimizer = torch.optim.SGD(groups, lr=float(run.cfg.value("learning_rate")))
    make = run.train_plan().schedule.get()
    assert make is not None, "the schedule's Part fills the slot"
    schedule = make(optimizer, steps)
    found: dict[str, list[float]] = {group: [] for group in peaks(run)}
    for _ in range(steps):
        for values, rate in zip(found.values(), schedule.get_last_lr(), strict=True):
            values.append(float(rate))
        optimizer.step()
        schedule.step()
    return found
