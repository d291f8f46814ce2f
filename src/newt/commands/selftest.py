"""newt selftest: do the fast paths of this config change what is trained? Tried on its own model and data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from newt.commands.options import config_command

FAILED = 1
"""Exit code when a try fails."""

COMPILE_SECONDS = 25
"""torch.compile may take so long."""

MOST_BYTES = 8 * 2**30
"""A run whose checkpoints are larger is not tried: it would take minutes."""

BYTES_TRAINED = 12
"""Bytes of a checkpoint for each trained parameter: the weight and two moments of Adam, in float32."""

OTHER_LOSSES = {
    "use_eaft": "use_eaft weights the tokens",
    "cut_cross_entropy": "cut_cross_entropy rounds in its own way",
}
"""Keys that make the loss another function, and what is said of them."""


@config_command("selftest")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option(
    *("--compile-seconds", "seconds"),
    type=click.FloatRange(min=1),
    default=COMPILE_SECONDS,
    show_default=True,
    help="How long torch.compile may take.",
)
def command(config: str, overrides: dict[str, Any], as_json: bool, seconds: float) -> None:
    """Try whether this config's fast paths change what is trained, on its own model and data.

    Exit code 0: nothing failed; 1: something did; 2: the config is wrong.
    """
    from newt.commands.shared import open_run

    run = open_run(config, overrides)
    results = []
    if not as_json:
        click.echo(HEAD)
    for result in selftest(run, seconds):
        results.append(result)
        if not as_json:
            click.secho(line(result), fg={True: None, False: "red", None: "bright_black"}[result.passed])
    failed = [result.name for result in results if result.passed is False]
    if as_json:
        click.echo(json.dumps({"passed": not failed, "results": [asdict(result) for result in results]}, indent=1))
    else:
        click.echo(f"{config}: {'failed: ' + ', '.join(failed) if failed else 'everything that was tried passed'}.")
    if failed:
        raise click.exceptions.Exit(FAILED)


HEAD = f"{'':8}{'tried':24}{'loss':>20}{'gradients':>20}  found"


def line(result: Any) -> str:
    """A result as a line of the table."""
    verdict = {True: "ok", False: "FAILED", None: "skipped"}[result.passed]
    cells = ["", ""]
    if result.loss is not None:
        measured = zip((result.loss, result.gradient), result.tolerance, strict=True)
        cells = [f"{found:.1e} (<{allowed:.0e})" for found, allowed in measured]
    return f"{verdict:8}{result.name:24}{cells[0]:>20}{cells[1]:>20}  {result.note}".rstrip()


def selftest(run: Any, seconds: float = COMPILE_SECONDS) -> Iterator[Any]:
    """Try a run; gives a ``training.subject.Result`` as soon as it is known.

    Args:
        run: a checked run.
        seconds: how long torch.compile may take.

    Raises:
        NewtError: the method cannot be tried, or the data or the model cannot be used.
    """
    import tempfile

    from newt.support.errors import NewtError
    from newt.support.imports import no_collection

    _refuse(run)
    with no_collection():
        from newt.commands.steps import prepare_data
        from newt.models.generate import stop_ids
        from newt.training.selftest import skipped, tries, try_stop
        from newt.training.subject import Subject, lengthen, short_rows, stir

    tokenizer, datasets = prepare_data(run)
    rows = short_rows(datasets.train)
    if not rows:
        raise NewtError("there is nothing to try: no row of the data trains a token.")
    with tempfile.TemporaryDirectory(prefix="newt-selftest-") as folder:
        trainer = _trainer(short_run(run, Path(folder) / "run", _room(rows)), tokenizer, rows)
        if run.method.name == "pretrain":
            yield skipped("stop token is trained", "texts are trained as they are")
        else:
            longest = run.cfg[_batch()].sequence_len
            yield try_stop(datasets.train, stop_ids(trainer.model), longest, _namer(tokenizer))
        if run.cfg.value("adapter"):
            stir(trainer.model)
        subject = Subject(trainer, rows)
        lengthen(subject, datasets.train)
        rows = list(subject.rows)
        short = short_run(run, Path(folder) / "run", _room(rows))
        yield from tries(subject, *_plain_loss(short), seconds)
        trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        del trainer, subject
        yield from _try_runs(short, rows, tokenizer, trained, Path(folder))


def _room(rows: Any) -> int:
    """``sequence_len`` of a short run of these rows."""
    return 2 * max(len(row["input_ids"]) for row in rows)


def _trainer(short: Any, tokenizer: Any, rows: Any) -> Any:
    """The trainer of a short run, its model freshly loaded."""
    from types import SimpleNamespace

    from newt.commands.steps import rows_for_adapter
    from newt.models.load import load_model
    from newt.support.imports import no_collection
    from newt.training.subject import ShortRows

    few = SimpleNamespace(train=ShortRows(rows * 2), eval=None, summary=None)
    with no_collection():
        loaded = load_model(short.load_plan(), tokenizer, rows_for_adapter(short, tokenizer, few.train))
    return short.method.trainer(short.train_plan(), short.data_plan(), loaded, few)


def _try_runs(short: Any, rows: Any, tokenizer: Any, trained: int, folder: Path) -> Iterator[Any]:
    """The tries that train and write."""
    import shutil

    from newt.models.generate import load_for_inference
    from newt.models.lora_linear import FusedLinear, fuse_lora
    from newt.models.save import save_final
    from newt.training.selftest import skipped, try_reload, try_resume
    from newt.training.subject import set_aside_compiled

    what = "adapter" if short.cfg.value("adapter") else "model"
    # Two checkpoints of a run, and the saved model.
    if trained * BYTES_TRAINED * 3 > min(MOST_BYTES, shutil.disk_usage(folder).free):
        why = f"it would write {trained * BYTES_TRAINED * 3 / 2**30:.0f} GiB to {folder.parent}"
        yield skipped("resume", why)
        yield skipped(f"saved {what}", why)
        return

    def make() -> Any:
        trainer = _trainer(short, tokenizer, rows)
        set_aside_compiled(trainer.model)  # tried before; two more shapes would take long to compile
        return trainer

    with _silent():
        result, trainer = try_resume(make, short.cfg)
    yield result
    if short.cfg.value("qat"):
        yield skipped(f"saved {what}", "qat: the saved weights are not rounded")
        return

    def again(model: Any) -> Any:
        save_final(model, tokenizer, folder / "saved", short.cfg)
        loaded = load_for_inference(short.load_plan(), tokenizer, folder / "saved")
        if any(isinstance(part, FusedLinear) for part in model.modules()):
            fuse_lora(loaded)  # in 16 bits another order of sums would be the larger difference
        return loaded

    with _silent():
        result = try_reload(trainer, rows, again, what)
    yield result


def short_run(run: Any, folder: Path, length: int) -> Any:
    """The same run in two short steps, without trackers, evaluations and warm-up.

    Args:
        run: the run as configured.
        folder: its ``output_dir``.
        length: its ``sequence_len``.
    """
    from dataclasses import replace

    from newt.config.core import Batch, Cadence, RunControl
    from newt.run import Run
    from newt.training.fingerprint import HARMLESS_PREFIXES

    cfg = run.cfg
    sections = {kind: _without(section, (*HARMLESS_PREFIXES, "warmup_")) for kind, section in cfg.sections.items()}
    batch = {"micro_batch_size": 1, "gradient_accumulation_steps": 2, "batch_size": None, "sequence_len": length}
    control: dict[str, Any] = {"output_dir": str(folder), "max_steps": 2, "resume_from_checkpoint": None}
    control |= {"auto_resume_from_checkpoints": False, "overwrite_output_dir": True}
    sections[Batch] = cfg[Batch].model_copy(update={**batch, "eval_sequence_len": None})
    sections[RunControl] = cfg[RunControl].model_copy(update=control)
    sections[Cadence] = Cadence(save_steps=1, logging_steps=1)
    return Run(replace(cfg, sections=sections), run.facts, run.extra)


def _without(section: Any, prefixes: tuple[str, ...]) -> Any:
    """A section whose keys with these prefixes are as if they were not written."""
    fields = type(section).model_fields
    return section.model_copy(
        update={key: field.get_default() for key, field in fields.items() if key.startswith(prefixes)}
    )


def _plain_loss(run: Any) -> tuple[Any, str]:
    """The run's loss from the logits, or None and why there is none to compare with."""
    from newt.losses.causal import plain_causal_loss
    from newt.slots import Slot

    for key, why in OTHER_LOSSES.items():
        if run.cfg.value(key):
            return None, why
    plan = run.train_plan()
    plan.cross_entropy = Slot("next-token loss")
    plan.cross_entropy.fill(plain_causal_loss, by="selftest")
    return plan.loss.get(), ""


def _refuse(run: Any) -> None:
    from newt.support.errors import NewtError

    if run.method.name not in ("sft", "pretrain"):
        raise NewtError(f"selftest tries supervised fine-tuning and pretraining; this config trains {run.method.name}.")
    if run.data_plan().stream:
        raise NewtError("selftest needs rows that are prepared: set streaming: false, or a dataset in datasets.")


def _namer(tokenizer: Any) -> Callable[[int], str]:
    return lambda token: str(tokenizer.decode([token]))


def _batch() -> Any:
    from newt.config.core import Batch

    return Batch


def _silent() -> Any:
    """Nothing of what the short runs say."""
    import io
    from contextlib import redirect_stderr

    return redirect_stderr(io.StringIO())
