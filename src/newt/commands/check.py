"""newt check: is this config right? Reads no weights and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import click

from newt.commands.assume import assume_option
from newt.commands.options import config_command

INVALID, UNSUPPORTED = 2, 3
"""Exit codes: something is wrong; or the only complaint is that Newt does not do something yet."""


@config_command("check")
@click.option("--no-facts", is_flag=True, help="Do not look at this machine, the dataset files and the model.")
@assume_option
def command(config: str, overrides: dict[str, Any], no_facts: bool, assume: dict[str, Any] | None) -> None:
    """Say everything that is wrong with a config, one line for each problem.

    Exit code 0: nothing is wrong (warnings may be printed); 2: something is; 3: all that is wrong is that Newt does
    not support some keys yet.
    """
    from newt.commands.shared import find_problems

    _, problems = find_problems(config, overrides, facts=not no_facts, assume=assume)
    for problem in problems:
        label = "warning: " if problem.kind == "warning" else ""
        click.secho(f"{label}{problem}", fg=_COLOURS[problem.kind])
    kinds = Counter(str(problem.kind) for problem in problems)
    click.echo(f"{config}: {verdict(kinds)}")
    if kinds["invalid"]:
        raise click.exceptions.Exit(INVALID)
    if kinds["unsupported"]:
        raise click.exceptions.Exit(UNSUPPORTED)


_COLOURS = {"invalid": "red", "unsupported": "magenta", "warning": "yellow"}


def verdict(kinds: Mapping[str, int]) -> str:
    """One line from the number of problems of each kind."""
    invalid, unsupported, warnings = (kinds.get(kind, 0) for kind in ("invalid", "unsupported", "warning"))
    parts = []
    if invalid:
        parts.append(_count(invalid, "problem"))
    if unsupported:
        parts.append(f"{unsupported} not supported yet")
    if not parts:
        parts.append("nothing is wrong")
    if warnings:
        parts.append(_count(warnings, "warning"))
    return ", ".join(parts) + "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
