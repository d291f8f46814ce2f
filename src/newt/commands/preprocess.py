"""newt preprocess: tokenize the data now, and say what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from newt.commands.options import config_command, debug_options, split_options


@config_command("preprocess")
@click.option("--explain-cache", is_flag=True, help="Say why the cache of tokenized rows was used or not.")
@click.option("--dump", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows as JSON lines.")
@click.option("--download/--no-download", default=True, help="Also fetch a base model of the Hub. Default: yes.")
@click.option("--iterable", is_flag=True, hidden=True)
@debug_options
def command(
    config: str, overrides: dict[str, Any], explain_cache: bool, dump: Path | None, download: bool, **options: Any
) -> None:
    """Tokenize the datasets into the cache and print a summary; training then starts at once."""
    from newt.commands.download import download_base_model
    from newt.commands.shared import open_run
    from newt.commands.steps import prepare_data, say_examples
    from newt.config.core import Batch
    from newt.data.summary import render, render_lengths
    from newt.report.datasets import write_data_report
    from newt.support import env
    from newt.support.errors import NewtError
    from newt.support.log import say

    if options.pop("iterable"):
        raise click.UsageError("--iterable is gone. Remove it: data is read in pieces anyway.")
    debug, _ = split_options(options)
    if debug.traceback:
        overrides["debug"] = True
    env.mark_preprocess()
    run = open_run(config, overrides)
    say_examples(run, debug)
    if dump and run.data_plan().stream:
        raise NewtError("--dump needs prepared rows, and the training rows are streamed. Remove one.")
    _, datasets = prepare_data(run, force=not explain_cache, explain=say if explain_cache else None)
    say(render(datasets.summary))
    say(render_lengths(datasets.summary))
    if dump:
        say(f"{write_rows(datasets.train, dump):,} token rows are in {dump}")
    if download:
        download_base_model(run.cfg)
    if run.data_plan().stream:
        say("There is nothing to prepare: the training rows are streamed. The first of them were tokenized as a check.")
    if datasets.path is None:
        return
    report = write_data_report(datasets.summary.to_dict(), run.cfg[Batch].sequence_len, datasets.path)
    say(f"The tokenized data is in {datasets.path}, and a page about it in {report}")


def write_rows(rows: Any, path: Path) -> int:
    """Write all token rows, in the order of the datasets, as JSON lines with ``input_ids`` and ``labels``."""
    from newt.data.look import stored_rows

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as file:
        for row in stored_rows(rows):
            file.write(json.dumps(row) + "\n")
            count += 1
    partial.replace(path)
    return count
