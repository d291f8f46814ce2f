"""How a command takes a config and, behind it, any config key as an option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

EPILOG = "Any key of the config can follow as an option: --lora-r 8, --no-sample-packing, --datasets.0.split train."


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
        if equals:
            found[key] = value
        elif rest and not rest[0].startswith("--"):
            found[key] = rest.pop(0)
        elif key.startswith("no_"):
            found[key.removeprefix("no_")] = False
        else:
            found[key] = True
    return found


class ConfigCommand(click.Command):
    """A command that reads CONFIG and passes on every option that it does not know."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show what stands for the overrides."""
        formatter.write_usage(ctx.command_path, "CONFIG [OPTIONS] [--any-key VALUE ...]")


def config_command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command ``newt NAME CONFIG [--any-key value ...]``.

    The function gets ``config`` (a path, as text) and ``overrides`` (see :func:`parse_overrides`), besides its own
    options.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @wraps(function)
        def run(config: str, arguments: tuple[str, ...], **options: Any) -> Any:
            if config.startswith("-"):
                raise click.UsageError(f"the config comes first: newt {name} CONFIG {config} ...")
            return function(config=config, overrides=parse_overrides(arguments), **options)

        settings = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
        command = click.command(name, cls=ConfigCommand, context_settings=settings, epilog=EPILOG)
        config = click.argument("config", metavar="CONFIG", type=click.UNPROCESSED)
        arguments = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
        return command(config(arguments(run)))

    return decorate
