"""newt config-explain: what every key comes to, and where its value is from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import click

from newt.commands.assume import assume_option
from newt.commands.options import config_command

INVALID = 2
WIDTH = 120
DEFAULT = "default"


class Row(NamedTuple):
    """One key.

    Attributes:
        key: dotted.
        value: what it comes to, secrets hidden.
        origin: ``file:line``, ``--key``, or default.
    """

    key: str
    value: Any
    origin: str


@config_command("config-explain")
@click.option("--only", multiple=True, metavar="KEY", help="Only this key (more of them: repeat it).")
@click.option("--all", "everything", is_flag=True, help="Also keys whose default asks for nothing.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
@assume_option
def command(config: str, overrides: dict[str, Any], only: tuple[str, ...], **options: Any) -> None:
    """Show every key's value with the line, option or default that it comes from, and what is derived from them.

    Without --all, defaults that ask for nothing and those of features that are off are left out.
    """
    from newt.commands.derived import derive
    from newt.commands.shared import find_problems
    from newt.config.section import ConfigError

    run, problems = find_problems(config, overrides, assume=options["assume"])
    if run is None:
        raise ConfigError(problems)
    rows = list(explain(run.cfg))
    derived = [row._asdict() for row in derive(run)]
    if only:
        rows, derived = select(rows, only), []
    elif not options["everything"]:
        quiet = _keys_of_what_is_off(run)
        rows = [row for row in rows if row.origin != DEFAULT or _says_something(row, quiet)]
    click.echo(_as_json(rows, derived) if options["form"] == "json" else _as_table(rows, derived))
    wrong = [problem for problem in problems if problem.kind != "warning"]
    for problem in wrong:
        click.secho(str(problem), fg="red", err=True)
    if any(problem.kind == "invalid" for problem in wrong):
        click.secho("A key with a problem shows its default.", err=True)
        raise click.exceptions.Exit(INVALID)


def explain(cfg: Any) -> Iterator[Row]:
    """Every key of a config: those that were written in their order, then the others by name."""
    from newt.config.secrets import redacted

    values = redacted(cfg.to_dict())
    written = [key for key in values if key in cfg.given]
    order = {key: cfg.places[key].line for key in written if key in cfg.places}
    for key in sorted(written, key=lambda key: order.get(key) or len(values)):
        yield from _written(cfg, key, values[key])
    for key, value in values.items():
        if key not in cfg.given:
            yield Row(key, value, DEFAULT)


def _written(cfg: Any, key: str, value: Any) -> Iterator[Row]:
    """A key, or the parts of its value: entries of a list of mappings, keys of a block."""
    inner: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        inner = [(f"{key}.{name}", item) for name, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, Mapping) for v in value):
        inner = [(f"{key}.{number}", item) for number, item in enumerate(value)]
    if not inner:
        yield Row(key, value, str(cfg.where(key) or "given") if key in cfg.given else DEFAULT)
    for name, item in inner:
        if name in cfg.given:
            yield from _written(cfg, name, item)
        else:
            yield Row(name, item, DEFAULT)


def select(rows: Sequence[Row], only: Sequence[str]) -> list[Row]:
    """The rows of some keys and of what is below them.

    Raises:
        NewtError: there is no such key.
    """
    from newt.config.messages import nearest
    from newt.config.rename import RENAMED
    from newt.support.errors import NewtError

    found: list[Row] = []
    for given in only:
        key = given.strip().lower().replace("-", "_").replace("__", ".")
        first = key.partition(".")[0]
        key = RENAMED[first].new + key.removeprefix(first) if first in RENAMED else key
        here = [row for row in rows if row.key == key or row.key.startswith(key + ".")]
        if not here:
            near = nearest(key, sorted({row.key for row in rows}))
            raise NewtError(f"there is no key {given!r}. " + (f"Did you mean {near}?" if near else "See --all."))
        found += here
    return found


def _keys_of_what_is_off(run: Any) -> set[str]:
    from newt.registry import FEATURES, METHODS, sections

    on = {type(part) for part in run.parts}
    off = {section for part in (*METHODS, *FEATURES) if part not in on for section in part.Settings}
    off -= {section for part in on for section in part.Settings}
    coming = {key for section in sections(run.extra) for key in section.model_fields if section.is_coming(key)}
    return coming | {key for section in off for key in section.model_fields}


def _says_something(row: Row, quiet: set[str]) -> bool:
    return row.value not in (None, False, "", [], {}) and row.key not in quiet and "." not in row.key


def _as_json(rows: Sequence[Row], derived: Sequence[Mapping[str, Any]]) -> str:
    keys = {row.key: {"value": row.value, "from": row.origin} for row in rows}
    numbers = {row["name"]: {"value": row["value"], "rule": row["rule"]} for row in derived}
    return json.dumps({"keys": keys, "derived": numbers}, indent=2, ensure_ascii=False, default=str)


def _as_table(rows: Sequence[Row], derived: Sequence[Mapping[str, Any]]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=False)
    console.width = console.width if console.is_terminal else WIDTH
    with console.capture() as captured:
        for headings, lines in (
            (("key", "value", "from"), rows),
            (("derived", "value", "rule"), [tuple(row.values()) for row in derived]),
        ):
            if lines:
                table = Table(*headings, box=None, header_style="bold", pad_edge=False)
                for name, value, origin in lines:
                    table.add_row(Text(name), Text(_text(value)), Text(origin), style=_style(origin))
                console.print(table)
                console.print()
    return captured.get().rstrip("\n")


def _style(origin: str) -> Literal["dim", ""]:
    return "dim" if origin == DEFAULT else ""


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "[]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
