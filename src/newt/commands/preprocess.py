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
@click.option("--iterable", is_flag=True, hidden=True)
@debug_options
def command(
    config: str, overrides: dict[str, Any], explain_cache: bool, dump: Path | None, iterable: bool, **options: Any
) -> None:
    """Tokenize the datasets into the cache and print a summary; training then starts at once."""
    from newt.commands.shared import open_run
    from newt.commands.steps import prepare_data, say_examples
    from newt.data.summary import render
    from newt.support import env
    from newt.support.log import say

    if iterable:
        raise click.UsageError("--iterable is gone. Remove it: data is read in pieces anyway.")
    debug, _ = split_options(options)
    if debug.traceback:
        overrides["debug"] = True
    env.mark_preprocess()
    run = open_run(config, overrides)
    say_examples(run, debug)
    _, datasets = prepare_data(run, force=not explain_cache, explain=say if explain_cache else None)
    say(render(datasets.summary))
    if dump:
        say(f"{write_rows(datasets.train, dump):,} token rows are in {dump}")
    say(f"The tokenized data is in {datasets.path}")


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
