"""Write the pages that are made from the code: docs/config-reference.md, docs/coverage.md and docs/cli.md.

``--check`` writes nothing and fails when a page is not what the code says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click

from newt.commands import options
from newt.commands.families import page
from newt.commands.table import COMMANDS, TO_COME
from newt.config.core import SECTIONS, Dataset
from newt.config.load import nested_sections
from newt.config.rename import RENAMED
from newt.config.schema import field_docs
from newt.config.section import Section
from newt.registry import FEATURES, METHODS, entry_types, sections

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTICE = "<!-- Made by scripts/generate_docs.py from the code: change the code, then run `make docs`. -->\n"


def main() -> int:
    """Write or compare the pages; the exit code says whether they were right."""
    check = "--check" in sys.argv
    stale = []
    for name, text in {
        "config-reference.md": reference(),
        "coverage.md": coverage(),
        "cli.md": cli(),
        "families.md": page(),
    }.items():
        path = DOCS / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"stale: {', '.join(f'docs/{name}' for name in stale)}. Run: make docs")
    return int(check and bool(stale))


def reference() -> str:
    """Every key, grouped by the part that owns it."""
    lines = [NOTICE, "# Configuration reference", ""]
    lines += [
        "Every key of the YAML file. `newt config-schema` prints the same, `newt config-schema --field KEY` one key.",
        "Keys marked *not yet* are known and checked, and refused until they work.",
        "",
    ]
    for section in SECTIONS:
        lines += _section(_heading(section), section)
    for part in (*METHODS, *FEATURES):
        for section in part.Settings:
            lines += _section(_heading(section), section)
    lines += ["## Dataset entries", "", "Keys of each entry of `datasets` and `test_datasets`.", ""]
    lines += _table(Dataset, Dataset.model_fields)
    for name, section in entry_types().items():
        own = [key for key in section.model_fields if key not in Dataset.model_fields]
        if own:
            lines += [f"### type: {name}", "", *_table(section, own)]
    older = sorted((old, rule.new) for old, rule in RENAMED.items())
    lines += ["## Other spellings", "", "| older or other name | key |", "|---|---|"]
    lines += [f"| `{old}` | `{new}` |" for old, new in older]
    return "\n".join(lines) + "\n"


def _heading(section: type[Section]) -> str:
    return (section.__doc__ or section.__name__).strip().splitlines()[0].rstrip(".")


def _section(heading: str, section: type[Section]) -> Iterator[str]:
    yield from (f"## {heading}", "", *_table(section, section.model_fields))
    for key, field in section.model_fields.items():
        for nested in nested_sections(field.annotation):
            if not issubclass(nested, Dataset):
                yield from (f"### `{key}`", "", *_table(nested, nested.model_fields))


def _table(section: type[Section], keys: Iterable[str]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    docs = field_docs(section)
    for key in keys:
        field = section.model_fields[key]
        default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
        mark = " *not yet*" if section.is_coming(key) else ""
        yield f"| `{key}`{mark} | {_cell(_type(field.annotation))} | {default} | {_cell(docs.get(key, ''))} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Section):
        return ""
    return f"`{list(value) if isinstance(value, tuple) else value}`"


_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any"}


def _type(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in arguments if one is not NoneType))
    if origin is Literal:
        return ", ".join(str(one).lower() if isinstance(one, bool) else str(one) for one in arguments)
    if hasattr(annotation, "__metadata__"):
        return _type(arguments[0])
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}" if arguments else "list"
    if origin is dict or annotation is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "mapping"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def coverage() -> str:
    """Keys that are known and not built yet."""
    lines = [NOTICE, "# What is not built yet", ""]
    lines += [
        "Keys that Newt knows and checks, and refuses with *not supported yet* (`newt check` then exits with 3) until",
        "they do what they say. Nothing is ignored silently.",
        "",
    ]
    built = total = 0
    for section in _all_sections():
        coming = [key for key in section.model_fields if section.is_coming(key)]
        total += len(section.model_fields)
        built += len(section.model_fields) - len(coming)
        if coming:
            keys = ", ".join(f"`{key}`" for key in coming)
            lines += [f"- **{_heading(section)}**: {keys}"]
    lines += ["", f"{built} of {total} keys work.", ""]
    lines += ["## Commands and options", "", "They are refused in the same way, with exit code 3.", ""]
    lines += [f"- `newt {name}`: {what}" for name, what in TO_COME.items()]
    lines += [f"- `--{name}`: {what}" for name, what in options.TO_COME.items()]
    return "\n".join(lines) + "\n"


def cli() -> str:
    """Every command with its arguments and options."""
    lines = [NOTICE, "# Commands", ""]
    lines += [
        "`newt COMMAND --help` prints the same. A command that takes CONFIG (a YAML file, a folder with one, or an",
        "`https://` address) also takes any key of it as an option: `--lora-r 8`, `--lora_r=8`, `--no-sample-packing`,",
        "`--datasets.0.split train`, `--trl.beta 0.1`. With `strict: true` in the file, only keys that it has.",
        "",
        "Exit codes: 0 done; 2 something is wrong, and nothing was started; 3 all that is wrong is that Newt does not",
        "support something yet; 130 and 143 stopped by Ctrl+C and SIGTERM.",
        "",
    ]
    for name, entry in COMMANDS.items():
        lines += _command(name, import_module(f"newt.commands.{entry.module}").command)
    lines += ["## Options that others have", ""]
    lines += ["| option | answer |", "|---|---|"]
    lines += [f"| `--{name.replace('_', '-')}` | not needed: {why} |" for name, why in options.GONE.items()]
    lines += [f"| `--{name}` | not supported yet: {what} |" for name, what in options.TO_COME.items()]
    lines += [f"| `newt {name}` | not supported yet: {what} |" for name, what in TO_COME.items()]
    return "\n".join(lines) + "\n"


def _command(name: str, command: click.Command) -> Iterator[str]:
    arguments = [one for one in command.params if isinstance(one, click.Argument) and one.name != "arguments"]
    usage = " ".join(["newt", name, *(one.make_metavar(click.Context(command)) for one in arguments)])
    yield from (f"## newt {name}", "", f"`{usage}`", "", _paragraphs(command.help or ""), "")
    shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if shown:
        yield from ("| option | meaning |", "|---|---|")
        for option in shown:
            names = " / ".join([*option.opts, *option.secondary_opts])
            wanted = option.make_metavar(click.Context(command)).replace(" RANGE", "")
            takes = "" if option.is_flag else f" {_WANTED.get(wanted, wanted)}"
            default = f" Default: {option.default}." if option.show_default and not option.is_flag else ""
            yield f"| `{_cell(names + takes)}` | {_cell((option.help or '') + default)} |"
        yield ""


_WANTED = {"INTEGER": "N", "FLOAT": "X", "TEXT": "TEXT"}


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _all_sections() -> list[type[Section]]:
    found: list[type[Section]] = []
    for section in (*sections(), *entry_types().values()):
        found.append(section)
        for field in section.model_fields.values():
            found += nested_sections(field.annotation)
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    sys.exit(main())
