"""newt config-migrate: older keys get today's names; comments, order and formatting stay."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from newt.config.edit import CannotEditError, Document
from newt.config.rename import NESTED_RENAMED, REMOVED, RENAMED
from newt.support.errors import NewtError

OFFLOAD = {"offload": "true", "offload_disk": "disk"}
"""``gradient_checkpointing`` as it was -> ``activation_offloading`` as it is."""


@click.command("config-migrate")
@click.argument("config", metavar="CONFIG", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help="Change the file; the old one is kept beside it as CONFIG.bak.")
def command(config: Path, write: bool) -> None:
    """Show (or --write) what changes in a config when its older keys get today's names.

    Nothing else changes: comments, order and formatting stay, and the config means the same.
    """
    text, newlines = _read(config)
    migration = migrate(text)
    for line in migration.by_hand:
        click.secho(f"{config}:{line}", fg="yellow", err=True)
    if migration.text == text:
        click.echo(f"{config}: nothing to do.")
        return
    check_same(config, text, migration)
    for line in migration.done:
        click.echo(f"{config}:{line}")
    click.echo(diff(text, migration.text, config), nl=False)
    if write:
        click.echo(f"The old file is {replace_file(config, migration.text.replace(chr(10), newlines))}")
    else:
        click.echo("Nothing was written. Add --write to do it.")


@dataclass
class Migration:
    """What changes.

    Attributes:
        text: the new text.
        values: the new values, by the rules, not by the text.
        done: ``LINE: old -> new`` for each change.
        by_hand: ``LINE: key: why`` for what the user must decide.
    """

    text: str
    values: dict[str, Any]
    done: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)


def migrate(text: str) -> Migration:
    """Find the older keys of a valid YAML text, and write it with today's.

    Raises:
        NewtError: it is not a config.
    """
    values = _values(text)
    try:
        editor = _Editor(Document(text), values)
    except CannotEditError as error:
        raise NewtError(f"the config {error}.") from None
    for rule in (_rename, _attention, _offload, _removed, _nested):
        rule(editor)
    return Migration(editor.document.text(), editor.values, editor.done, editor.by_hand)


class _Editor:
    """Changes values and text together; a change that the text cannot take is left to the user."""

    def __init__(self, document: Document, values: dict[str, Any]) -> None:
        self.document = document
        self.values = values
        self.done: list[str] = []
        self.by_hand: list[str] = []

    def change(self, path: tuple[str, ...], what: str, *steps: tuple[Callable[..., None], Any]) -> bool:
        """Make the steps in the text, all or none."""
        before = len(self.document.changes)
        try:
            for step, arguments in steps:
                step(path, *arguments)
        except CannotEditError as error:
            del self.document.changes[before:]
            self.say_by_hand(path, f"is to be changed by hand, because {error}: {what}")
            return False
        self.done.append(f"{self.document.line(*path)}: {what}")
        return True

    def say_by_hand(self, path: tuple[str, ...], why: str) -> None:
        self.by_hand.append(f"{self.document.line(*path)}: {'.'.join(path)}: {why}")


def _rename(editor: _Editor) -> None:
    for old in [key for key in editor.values if key in RENAMED]:
        rule, values, text = RENAMED[old], editor.values, editor.document
        if not rule.deprecated:
            continue
        present = values.get(rule.new)
        if values[old] is None or (present is not None and present == values[old]):
            if editor.change((old,), f"{old} is removed: {rule.new} says the same", (text.remove, ())):
                del values[old]
        elif present is not None:
            editor.say_by_hand((old,), f"is another name of {rule.new}, which has another value. Keep one of them.")
        elif rule.new in values:
            editor.say_by_hand((old,), f"is now called {rule.new}, which stands in the file without a value.")
        elif editor.change((old,), f"{old} -> {rule.new}", (text.rename, (rule.new,))):
            _move(values, old, rule.new, values[old])


def _attention(editor: _Editor) -> None:
    from newt.config.attention import FLAGS

    values, text = editor.values, editor.document
    given = [flag for flag in values if flag in FLAGS]
    on = [flag for flag in FLAGS if values.get(flag) is True]
    chosen = FLAGS[on[0]] if on else None
    if not on:
        return
    if "attn_implementation" in values:
        if values["attn_implementation"] != chosen:
            editor.say_by_hand((on[0],), "cannot be used with attn_implementation. Keep one of them.")
            return
    else:
        what = f"{on[0]}: true -> attn_implementation: {chosen}"
        steps = ((text.rename, ("attn_implementation",)), (text.set_value, (chosen,)))
        if not editor.change((on[0],), what, *steps):
            return
        _move(values, on[0], "attn_implementation", chosen)
        given.remove(on[0])
    for flag in given:
        if values[flag] in (True, False, None) and editor.change(
            (flag,), f"{flag} is removed: attn_implementation says it", (text.remove, ())
        ):
            del values[flag]


def _offload(editor: _Editor) -> None:
    values, text = editor.values, editor.document
    key, new = "gradient_checkpointing", "activation_offloading"
    old = values.get(key)
    if not isinstance(old, str) or old not in OFFLOAD:
        return
    what = f"{key}: {old} -> {key}: true, {new}: {OFFLOAD[old]}"
    steps: list[tuple[Callable[..., None], Any]] = [(text.set_value, ("true",))]
    value = True if OFFLOAD[old] == "true" else OFFLOAD[old]
    if values.get(new) is None and new not in values:
        steps.append((text.add_below, (f"{new}: {OFFLOAD[old]}",)))
    elif values[new] != value:
        editor.say_by_hand((key,), f"{old} means {new}: {OFFLOAD[old]}, which has another value.")
        return
    if editor.change((key,), what, *steps):
        values[key], values[new] = True, value


def _removed(editor: _Editor) -> None:
    values, text = editor.values, editor.document
    for key in [key for key in values if key in REMOVED]:
        if values[key] is None or (key.startswith("unsloth_") and values[key] is False):
            if editor.change((key,), f"{key} is removed: it asks for nothing", (text.remove, ())):
                del values[key]
        else:
            editor.say_by_hand((key,), REMOVED[key])


def _nested(editor: _Editor) -> None:
    for name, rules in NESTED_RENAMED.items():
        block = editor.values.get(name)
        if not isinstance(block, dict):
            continue
        for old in [key for key in block if key in rules and rules[key].deprecated]:
            new, path = rules[old].new, (name, old)
            if new in block:
                editor.say_by_hand(path, f"is another name of {new}, which is there too. Keep one of them.")
            elif editor.change(path, f"{name}.{old} -> {new}", (editor.document.rename, (new,))):
                _move(block, old, new, block[old])


def _move(values: dict[str, Any], old: str, new: str, value: Any) -> None:
    """Put a value under another key, at the same place of the order."""
    items = [(new, value) if key == old else (key, item) for key, item in values.items()]
    values.clear()
    values.update(items)


# --------------------------------------------------------------------------- proof and file


def check_same(config: Path, text: str, migration: Migration) -> None:
    """Make sure that the new text holds exactly the values of the rules, and that the config means the same.

    Raises:
        NewtError: it does not; nothing was written.
    """
    written = _values(migration.text)
    old, new = (_meaning(config, _values(part)) for part in (text, migration.text))
    different = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if written != migration.values or different:
        where = f" ({', '.join(different[:5])})" if different else ""
        raise NewtError(f"{config}: the migrated config would not mean the same{where}. Change it by hand.")


def _meaning(config: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved value of every key, in today's keys; relative paths play no part in it."""
    from newt.config.attention import FLAGS
    from newt.config.load import load
    from newt.registry import sections
    from newt.run import EntryType

    loaded = load(values, (), sections=sections(), entry_type=EntryType())
    assert loaded.config is not None, config
    meaning = {key: value for key, value in loaded.config.to_dict().items() if key not in FLAGS}
    on = next((name for flag, name in FLAGS.items() if values.get(flag) is True), None)
    meaning["attn_implementation"] = meaning.get("attn_implementation") or on
    if values.get("gradient_checkpointing") in OFFLOAD:
        word = OFFLOAD[values["gradient_checkpointing"]]
        meaning |= {"gradient_checkpointing": True, "activation_offloading": True if word == "true" else word}
    return {key: value for key, value in meaning.items() if value is not None}


def diff(old: str, new: str, config: Path) -> str:
    """A unified diff."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), str(config), f"{config} (migrated)", n=2
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def replace_file(config: Path, text: str) -> Path:
    """Write the new text in the file's place, and return where the old one is kept (an older copy is not lost)."""
    from newt.support.files import write_atomically

    target = config.resolve()
    number, backup = 1, config.with_name(f"{config.name}.bak")
    while backup.exists():
        number += 1
        backup = config.with_name(f"{config.name}.bak{number}")
    try:
        shutil.copy2(target, backup)
        write_atomically(target, text)
        shutil.copymode(backup, target)
    except OSError as error:
        raise NewtError(f"{config} cannot be written: {str(error.strerror).lower()}") from error
    return backup


def _read(config: Path) -> tuple[str, str]:
    """The text with plain newlines, and the newline of the file.

    Raises:
        NewtError: it cannot be read, or is not valid YAML.
    """
    from newt.config.section import ConfigError
    from newt.config.source import read

    found = read(config)
    if found.problems or found.values is None:
        raise ConfigError(found.problems)
    data = config.read_bytes().decode("utf-8")
    newline = "\r\n" if "\r\n" in data else "\n"
    return data.replace("\r\n", "\n"), newline


def _values(text: str) -> dict[str, Any]:
    from newt.config.source import read_text

    found = read_text(text)
    if found.values is None:
        raise NewtError(f"the config is not valid: {found.problems[0]}")
    return found.values
