"""newt inspect: look at the tokens that will be trained, before anything is trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from newt.commands.options import config_command


@config_command("inspect")
@click.option("--rows", type=click.IntRange(min=1), default=3, show_default=True, help="How many rows to show.")
@click.option("--eval", "evaluation", is_flag=True, help="Show rows of test_datasets.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one HTML file instead.")
def command(config: str, overrides: dict[str, Any], rows: int, evaluation: bool, html: Path | None) -> None:
    """Show rows token by token: trained or masked, and why."""
    from newt.commands.shared import open_run
    from newt.commands.steps import open_tokenizer
    from newt.config.core import Data
    from newt.data.look import explain_rows
    from newt.report.terminal import show_rows
    from newt.report.tokens import tokens_page
    from newt.support.errors import NewtError
    from newt.support.files import write_atomically
    from newt.support.log import say

    run = open_run(config, overrides)
    if evaluation and not run.cfg[Data].test_datasets:
        raise NewtError("--eval shows rows of test_datasets, and there are none; val_set_size takes rows of datasets")
    found = explain_rows(run.data_plan(), open_tokenizer(run), rows, evaluation=evaluation)
    if html is None:
        click.echo(show_rows(found, color=sys.stdout.isatty()))
        return
    html.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(html, tokens_page(found, title=f"Tokens of {config}"))
    say(f"{len(found)} rows are in {html}")
