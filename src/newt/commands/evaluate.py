"""newt evaluate: the loss of a trained model on its training and evaluation data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from newt.commands.launcher import launcher_options, relaunch
from newt.commands.options import config_command, debug_options, split_options


@config_command("evaluate", launcher=True)
@click.option("--only", type=click.Choice(["training", "validation"]), help="Evaluate only this part of the data.")
@click.option("--base", is_flag=True, help="Evaluate the base model, even if a trained one exists.")
@debug_options
@launcher_options
def command(config: str, overrides: dict[str, Any], only: str | None, base: bool, **options: Any) -> None:
    """Compute the loss on training and evaluation data and write eval_summary.csv."""
    from newt.commands.shared import open_run
    from newt.commands.steps import say_examples
    from newt.support.log import say

    debug, wish = split_options(options)
    if debug.traceback:
        overrides["debug"] = True
    relaunch("evaluate", config, overrides, wish)
    run = open_run(config, overrides)
    say_examples(run, debug)
    metrics = evaluate(run, only=only, base=base)
    for name, values in metrics.items():
        say(f"{name}: " + ", ".join(f"{key} {_shown(key, value)}" for key, value in values.items()))
    say(f"The summary is {write_summary(run, metrics)}")


def evaluate(run: Any, *, only: str | None = None, base: bool = False) -> dict[str, dict[str, float]]:
    """Evaluate the trained model of a run (the base model if there is none yet).

    Returns:
        ``training`` and ``validation``, each with loss, perplexity and number of trained tokens.
    """
    import math

    from newt.commands.steps import prepare_data, trained_in
    from newt.models.generate import load_for_inference
    from newt.support.errors import NewtError
    from newt.support.log import say
    from newt.training.evaluate import evaluate_rows

    tokenizer, datasets = prepare_data(run)
    trained: Any = None if run.data_plan().stream else datasets.train
    parts = (("training", trained), ("validation", datasets.eval))
    if not any(rows is not None for name, rows in parts if only in (None, name)):
        raise NewtError("there is nothing to evaluate: the training rows are streamed. Set test_datasets.")
    folder = None if base else trained_in(run)
    say(f"Evaluating {folder or 'the base model'}")
    model = load_for_inference(run.load_plan(), tokenizer, folder)
    metrics: dict[str, dict[str, float]] = {}
    for name, rows in parts:
        if rows is None or only not in (None, name):
            continue
        loss, tokens = evaluate_rows(model, rows, run.train_plan(), run.data_plan(), tokenizer)
        metrics[name] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "tokens": float(tokens)}
    return metrics


def _shown(key: str, value: float) -> str:
    return f"{value:,.0f}" if key == "tokens" else f"{value:.4f}"


def write_summary(run: Any, metrics: dict[str, dict[str, float]]) -> Path:
    """Write ``metric,training,validation`` rows to ``output_dir/eval_summary.csv``."""
    from newt.config.core import RunControl
    from newt.support.files import write_atomically

    names = sorted({name for values in metrics.values() for name in values})
    lines = ["metric,training,validation"]
    for name in names:
        digits = ".0f" if name == "tokens" else ".6g"
        cells = [metrics.get(part, {}).get(name) for part in ("training", "validation")]
        lines.append(",".join([name, *("" if cell is None else format(cell, digits) for cell in cells)]))
    path = Path(run.cfg[RunControl].output_dir) / "eval_summary.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "\n".join(lines) + "\n")
    return path
