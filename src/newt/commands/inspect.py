"""newt inspect: look at the tokens that will be trained, before anything is trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from newt.commands.options import config_command

if TYPE_CHECKING:
    from newt.data.look import Explained
    from newt.data.selection import Packing, Selection

Function = Callable[..., Any]
SORTS = ("row", "length", "trained", "masked")
ORDERS = ("longest", "shortest", "most-masked")
FATES = ("dropped", "truncated")
UNPREPARED = "Rows are packed; run newt preprocess, or add --packing, to see the sequences."


def _flags(name: str, values: tuple[str, ...], helps: tuple[str, ...]) -> Callable[[Function], Function]:
    """One flag for each value, of which the last one given counts."""

    def add(function: Function) -> Function:
        for value, text in reversed(list(zip(values, helps, strict=True))):
            function = click.option(f"--{value}", name, flag_value=value, default=None, help=text)(function)
        return function

    return add


@config_command("inspect")
@click.option("--rows", "count", type=click.IntRange(min=1), default=3, show_default=True, help="How many rows.")
@click.option("--row", "numbers", type=click.IntRange(min=0), multiple=True, help="The row with this number (from 0).")
@click.option("--dataset", type=click.IntRange(min=0), help="Only rows of this entry of datasets (from 0).")
@click.option("--search", default="", metavar="TEXT", help="Only rows that hold this text.")
@_flags("order", ORDERS, ("The longest rows.", "The shortest rows.", "Rows of which the least is trained."))
@_flags("fate", FATES, ("Rows that are not trained, and why.", "Rows that are cut to sequence_len."))
@click.option("--sort", type=click.Choice(SORTS), help="Order of these rows, the highest first (row: the lowest).")
@click.option("--eval", "evaluation", is_flag=True, help="Rows of test_datasets.")
@click.option(
    "--view", type=click.Choice(("tokens", "conversation", "raw")), default="tokens", help="How to show them."
)
@click.option("--packing", is_flag=True, help="Show the packed sequences even if all rows must be tokenized for it.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one HTML file instead.")
def command(
    config: str, overrides: dict[str, Any], html: Path | None, view: Any, sort: str | None, **chosen: Any
) -> None:
    """Show rows token by token: trained or masked, and why."""
    from newt.commands.shared import open_run
    from newt.commands.steps import open_tokenizer
    from newt.config.core import Data
    from newt.data.selection import Selection, packing, select
    from newt.report.terminal import show_packing, show_rows
    from newt.support.errors import NewtError
    from newt.support.log import note, say

    force = chosen.pop("packing")
    wanted = Selection(**{**chosen, "numbers": tuple(chosen["numbers"]), "fate": chosen["fate"] or ""})
    run = open_run(config, overrides)
    if wanted.evaluation and not run.cfg[Data].test_datasets:
        raise NewtError("--eval shows rows of test_datasets, and there are none; val_set_size takes rows of datasets")
    plan, tokenizer = run.data_plan(), open_tokenizer(run)
    found = _sorted(select(plan, tokenizer, wanted), sort)
    bins = None
    packed = plan.pack and not plan.stream and not wanted.evaluation
    if packed and (force or html or wanted == Selection(wanted.count)):
        bins = packing(plan, tokenizer, force=force)
        if bins is None:
            note(UNPREPARED)
    if html is not None:
        _write(html, config, found, bins, wanted)
        say(f"{len(found)} row{'' if len(found) == 1 else 's'} are in {html}" if found else f"No such rows: {html}")
        return
    shown = show_rows(found, color=sys.stdout.isatty(), view=view) if found else "There are no such rows."
    click.echo(shown if bins is None else f"{shown}\n{show_packing(bins)}")


def _sorted(rows: list[Explained], sort: str | None) -> list[Explained]:
    if sort is None:
        return rows
    if sort == "row":
        return sorted(rows, key=lambda row: (row["dataset"], row["row"]))
    value = {
        "length": lambda row: row["length"],
        "trained": lambda row: row["trained"],
        "masked": lambda row: 1 - row["trained"] / max(1, row["length"]),
    }[sort]
    return sorted(rows, key=value, reverse=True)


def _write(path: Path, config: str, rows: list[Explained], bins: Packing | None, wanted: Selection) -> None:
    from newt.report.tokens import tokens_page
    from newt.support.files import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, tokens_page(rows, title=f"Tokens of {Path(config).name}", packing=bins, note=_told(wanted)))


def _told(wanted: Selection) -> str:
    """Which rows these are, in words."""
    parts = [wanted.order or "", wanted.fate, f"with the text {wanted.search!r}" if wanted.search else ""]
    parts.append("of test_datasets" if wanted.evaluation else "")
    return " ".join(part for part in parts if part)
