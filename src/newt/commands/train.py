"""newt train: from the config to a trained model, read top to bottom."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from newt.commands.launcher import launcher_options, relaunch
from newt.commands.options import config_command, debug_options, split_options

TOKENS = "tokens.json"
LOG = "debug.log"
EXPLAINED_ROWS = 12


@config_command("train", launcher=True)
@click.option("--sweep", type=click.Path(dir_okay=False, path_type=Path), help="Train every combination of this file.")
@debug_options
@launcher_options
def command(config: str, overrides: dict[str, Any], sweep: Path | None, **options: Any) -> None:
    """Train the model that the config describes."""
    from newt.commands.shared import open_run
    from newt.commands.steps import say_examples
    from newt.support.log import say

    debug, wish = split_options(options)
    if debug.traceback:
        overrides["debug"] = True
    if sweep:
        from newt.commands.sweep import train_sweep

        raise SystemExit(train_sweep(config, overrides, sweep, wish))
    relaunch("train", config, overrides, wish, writes=True)
    run = open_run(config, overrides, writes=True)
    say_examples(run, debug)
    _say_idle_gpus(run)
    result = train(run)
    say(f"The report is {result.report}")
    if result.stopped_by:
        say(f"Stopped by {result.stopped_by} after step {result.global_step}. To go on, add")
        say("  --resume-from-checkpoint true")
        raise SystemExit(128 + signal.Signals[result.stopped_by])
    say(f"The model is in {result.output_dir}")


@dataclass(frozen=True)
class TrainResult:
    """What came out of a run.

    Attributes:
        output_dir: folder of the trained model or adapter.
        global_step: optimizer steps done.
        train_loss: mean training loss of this part of the run; None without steps.
        metrics: the last evaluation, such as ``eval_loss``.
        before: the evaluation before the first step.
        report: the HTML report.
        stopped_by: name of the signal that ended the run early, or None.
    """

    output_dir: Path
    global_step: int
    train_loss: float | None
    metrics: dict[str, float]
    before: dict[str, float]
    report: Path
    stopped_by: str | None = None


def train(run: Any) -> TrainResult:
    """Train what a checked run describes, save it and write the report.

    Raises:
        NewtError: the data, the model or the checkpoint cannot be used; nothing was trained.
    """
    from newt.support.imports import no_collection

    with no_collection():
        from newt.commands.steps import prepare_data
        from newt.data.summary import render
        from newt.support.log import say
        from newt.training.auto_batch import as_saved, smaller
        from newt.training.memory import DoesNotFitError, release
        from newt.training.resume import find_start

    start = find_start(run.cfg)
    run = run.changed(as_saved(run.cfg, start))

    tokenizer, datasets = prepare_data(run)
    say(render(datasets.summary))

    while True:
        try:
            return _train(run, tokenizer, datasets, start)
        except DoesNotFitError as error:
            cfg, start = smaller(run.cfg, start, error)
            run = run.changed(cfg)
        # Only here nothing holds the model any more that did not fit.
        release()


def _train(run: Any, tokenizer: Any, datasets: Any, start: Any) -> TrainResult:
    """Train, save and write the report: with this micro-batch, and from there."""
    from newt.support.imports import no_collection

    with no_collection():
        from newt.commands.samples import FILE, Samples
        from newt.commands.steps import rows_for_adapter
        from newt.config.core import RunControl
        from newt.data.summary import render
        from newt.models.load import load_model
        from newt.models.save import save_final
        from newt.models.trained import keep_trained
        from newt.report.html import write_report
        from newt.support.log import mirrored, note, say
        from newt.training.callbacks.base import run_ended
        from newt.training.fit import fit
        from newt.training.outputs import room_needed

    output_dir = Path(run.cfg[RunControl].output_dir).expanduser()
    loaded = load_model(run.load_plan(), tokenizer, rows_for_adapter(run, tokenizer, datasets.train, start.checkpoint))
    for line in (*loaded.notes, keep_trained(loaded.model, output_dir)):
        note(line)
    note(f"Training {loaded.trainable:,} of {loaded.total:,} parameters ({loaded.trainable / loaded.total:.2%})")

    trainer = run.method.trainer(run.train_plan(), run.data_plan(), loaded, datasets)
    if start.checkpoint is None:
        (output_dir / FILE).unlink(missing_ok=True)
    samples = Samples(output_dir, datasets, tokenizer, run.cfg[RunControl].report_samples)
    samples.answer(trainer.model, "before")
    _store_tokens(run, tokenizer, output_dir)

    with run_ended(trainer) as trained, mirrored(output_dir / LOG, _config_text(run.cfg)):
        outcome = fit(trainer, run.cfg, start, datasets)
        if outcome.stopped_by is None:
            with room_needed(output_dir):
                save_final(trainer.model, tokenizer, output_dir, run.cfg)
            samples.answer(trainer.model, "after")
            trained(output_dir)
        if run.data_plan().stream:
            say(render(datasets.summary))
        report = write_report(output_dir)
    return TrainResult(
        output_dir,
        outcome.global_step,
        outcome.train_loss,
        outcome.metrics,
        outcome.before,
        report,
        outcome.stopped_by,
    )


def _config_text(cfg: Any) -> str:
    """The resolved config for the log, sorted, without secrets."""
    from newt.config.secrets import redacted

    return "config: " + json.dumps(redacted(cfg.to_dict()), sort_keys=True, default=str)


def _say_idle_gpus(run: Any) -> None:
    from newt.support import env
    from newt.support.log import note

    if run.facts.gpus > 1 and not env.launched():
        more = f"--launcher torchrun -- --nproc-per-node {run.facts.gpus}"
        note(f"This trains on 1 of {run.facts.gpus} GPUs. For all of them, add {more}")


def _store_tokens(run: Any, tokenizer: Any, output_dir: Path) -> None:
    """Keep some rows with the reason for every label, for the report."""
    from newt.data.look import explain_rows
    from newt.support.files import write_atomically

    rows = explain_rows(run.data_plan(), tokenizer, EXPLAINED_ROWS)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(output_dir / TOKENS, json.dumps(rows, ensure_ascii=False, default=str))
