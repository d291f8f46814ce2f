"""The command line: ``newt COMMAND CONFIG [--key value ...]``.

Nothing but click is imported before a command is chosen, so that ``newt --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import click

from newt.commands.table import COMMANDS, TO_COME
from newt.support import env
from newt.support.errors import NewtError, UnsupportedError
from newt.support.log import quiet_libraries
from newt.support.version import __version__

INTERRUPTED = 130
USAGE = 2


def _added_commands() -> dict[str, click.Command]:
    """Commands that other packages bring, through the entry points ``newt.cli_commands``; Newt's own names are kept."""
    from importlib.metadata import entry_points

    found: dict[str, click.Command] = {}
    for point in entry_points(group="newt.cli_commands"):
        if point.name in COMMANDS or point.name in TO_COME:
            complain(
                f"warning: {point.value} wants to be the command {point.name}, which is Newt's own: it is ignored."
            )
        elif isinstance(loaded := point.load(), click.Command):
            found[point.name] = loaded
    return found


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in COMMANDS:
            return _added_commands().get(name)
        command = import_module(f"newt.commands.{COMMANDS[name].module}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        if args[0] in TO_COME:
            raise UnsupportedError(f"the command {args[0]} is known, but Newt does not support it yet.")
        if args[0] not in COMMANDS and not args[0].startswith("-") and args[0] not in _added_commands():
            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f"Did you mean {near[0]}?" if near else "See newt --help."
            raise click.UsageError(f"there is no command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by group, without importing them."""
        width = max(map(len, COMMANDS))
        for group in dict.fromkeys(entry.group for entry in COMMANDS.values()):
            rows = [(name.ljust(width), entry.help) for name, entry in COMMANDS.items() if entry.group == group]
            with formatter.section(group):
                formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="newt %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def newt(debug: bool) -> None:
    """Fine-tune language models from one YAML file."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 wrong input, 3 not supported yet, 130 interrupted.

    Args:
        argv: arguments without the program's name. Default: those of the process.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        env.load_file(Path(".env"))
        env.set_process_defaults()
        quiet_libraries()
        code = newt.main(args, prog_name="newt", standalone_mode=False)
    except NewtError as error:
        if "--debug" in args:
            raise
        complain(str(error))
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = USAGE
    except click.ClickException as error:
        complain(error.format_message())
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def complain(text: str) -> None:
    """Print an error to stderr, red on a terminal."""
    click.secho(text, fg=None if env.read("NO_COLOR") else "red", err=True)


if __name__ == "__main__":
    main()
