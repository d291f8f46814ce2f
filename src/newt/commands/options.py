"""How a command takes a config and, behind it, any config key as an option."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from newt.support.errors import NewtError, UnsupportedError
from newt.support.log import warn

WORDS, PASSED = "newt.words", "newt.passed"
"""Where the context of a command with a launcher keeps its words before and behind ``--``."""

CONFIG = "newt.config"
"""Where the context of a command keeps the config that it opened."""

EPILOG = "Any key of the config can follow as an option: --lora-r 8, --no-sample-packing, --datasets.0.split train."


TO_COME = {"cloud": "training on a machine of a cloud provider"}
"""Options of the field that Newt does not have yet, with what they are for; they are no keys of the config."""

GONE = {
    "shard": "Large models are saved in several files by themselves.",
    "iterable": "Data is read in pieces anyway.",
    "main_process_port": "Only train, evaluate and inference start several processes.",
    "num_processes": "Only train, evaluate and inference start several processes.",
    "launcher": "Only train, evaluate and inference start several processes.",
}
"""Options of the field that have nothing to do here, with the reason."""

ELSEWHERE = {
    "gradio": "inference", "chat": "inference", "prompter": "inference", "download": "preprocess", "sweep": "train",
}  # fmt: skip
"""Options that another command has."""


def parse_overrides(args: Sequence[str]) -> dict[str, Any]:
    """Read ``--lora-r 8 --lora_alpha=16 --tf32 --no-sample-packing --datasets.0.path x``.

    Returns:
        Dotted key -> its text, or true and false for flags. Hyphens become underscores.

    Raises:
        click.UsageError: something is not an option.
    """
    found: dict[str, Any] = {}
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        if not word.startswith("--") or not key.strip("_."):
            raise click.UsageError(f"{word!r} is not an option. Write --key value.")
        _refuse(key.removeprefix("no_"), name)
        if equals:
            found[key] = value
        elif rest and not rest[0].startswith("--"):
            found[key] = rest.pop(0)
        elif key.startswith("no_"):
            found[key.removeprefix("no_")] = False
        else:
            found[key] = True
    return found


def _refuse(key: str, name: str) -> None:
    if key in TO_COME:
        raise UnsupportedError(f"--{name} is known, but Newt does not support it yet.")
    if key in GONE:
        raise click.UsageError(f"--{name} has nothing to do here: {GONE[key]} Remove it.")
    if key in ELSEWHERE:
        raise click.UsageError(f"--{name} is an option of newt {ELSEWHERE[key]}. Remove it.")


class ConfigCommand(click.Command):
    """A command that reads CONFIG and passes on every option that it does not know."""

    has_launcher = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what stands behind ``--`` for the launcher, if the command has one."""
        if self.has_launcher:
            at = args.index("--") if "--" in args else len(args)
            ctx.meta[WORDS], ctx.meta[PASSED] = tuple(args[:at]), tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The command's own options, then the keys of the config."""
        found = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("--"):
            return found
        from newt.commands.completion import options_of_keys

        known = {item.value for item in found}
        return [*found, *(CompletionItem(one) for one in options_of_keys(incomplete) if one not in known)]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show what stands for the overrides."""
        formatter.write_usage(ctx.command_path, "CONFIG [OPTIONS] [--any-key VALUE ...]")


def _one_of_several(config: str) -> str:
    """Ask which config of a folder is meant, if there is somebody to ask."""
    folder = Path(config)
    if not sys.stdin.isatty() or not folder.is_dir():
        return config
    from newt.config.source import configs_in

    files = configs_in(folder)
    if len(files) < 2:
        return config
    for number, path in enumerate(files, 1):
        click.echo(f"{number}  {path.name}", err=True)
    return str(files[click.prompt("Which one", type=click.IntRange(1, len(files)), err=True) - 1])


def _config_files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _values(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Values of the key that stands before the cursor."""
    from newt.commands.completion import values_of_key

    words = context.params.get("arguments") or ("",)
    return [CompletionItem(value) for value in values_of_key(str(words[-1])) if value.startswith(incomplete)]


def _with_place(text: str) -> str:
    """An error that begins with a key of the config gets the place where the user wrote it."""
    cfg = click.get_current_context().meta.get(CONFIG)
    key = text.partition(": ")[0]
    place = cfg.where(key) if cfg is not None and key in cfg.given else None
    return f"{place}: {text}" if place else text


def config_command(name: str, *, launcher: bool = False) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command ``newt NAME CONFIG [--any-key value ...]``.

    The function gets ``config`` (a path, as text) and ``overrides`` (see :func:`parse_overrides`), besides its own
    options. With ``launcher``, what stands behind ``--`` is kept for :func:`newt.commands.launcher.relaunch`.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @wraps(function)
        def run(config: str, arguments: tuple[str, ...], **options: Any) -> Any:
            if config.startswith("-"):
                raise click.UsageError(f"the config comes first: newt {name} CONFIG {config} ...")
            try:
                return function(config=_one_of_several(config), overrides=parse_overrides(arguments), **options)
            except NewtError as error:
                error.args = (_with_place(str(error)),)
                raise

        settings = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
        command = click.command(name, cls=ConfigCommand, context_settings=settings, epilog=EPILOG)
        config = click.argument("config", metavar="CONFIG", type=click.UNPROCESSED, shell_complete=_config_files)
        arguments = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=_values)
        made = command(config(arguments(run)))
        made.has_launcher = launcher
        return made

    return decorate


class Debug(NamedTuple):
    """What the debug options ask for.

    Attributes:
        examples: tokenized rows to show first.
        text_only: show them without ids.
        traceback: show the traceback of an error.
    """

    examples: int
    text_only: bool
    traceback: bool


def debug_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options ``--debug``, ``--debug-text-only`` and ``--debug-num-examples``; see :func:`split_options`.

    ``--prompter`` is taken, too: others choose the prompt style of training by it.
    """
    for option in (
        click.option("--prompter", metavar="NAME", hidden=True),
        click.option("--debug-num-examples", type=click.IntRange(0), metavar="N", help="Show N tokenized examples."),
        click.option("--debug-text-only", is_flag=True, help="Show a tokenized example, without ids."),
        click.option("--debug", is_flag=True, help="Show a tokenized example, and the traceback of an error."),
    ):
        function = option(function)
    return function


def split_options(options: Mapping[str, Any]) -> tuple[Debug, dict[str, Any]]:
    """What :func:`debug_options` gave, and all other options."""
    rest = dict(options)
    if rest.pop("prompter") is not None:
        warn("--prompter has no effect here: the type of a dataset says how its rows are written.")
    full, text, number = (rest.pop(name) for name in ("debug", "debug_text_only", "debug_num_examples"))
    return Debug(int(full or text) if number is None else number, text and not full, full), rest
