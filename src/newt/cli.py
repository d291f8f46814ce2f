"""The command line: ``newt COMMAND CONFIG [--key value ...]``.

Nothing but click is imported before a command is chosen, so that ``newt --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click

from newt.support import env
from newt.support.errors import NewtError
from newt.support.version import __version__

INTERRUPTED = 130
USAGE = 2


class Entry(NamedTuple):
    """A command before it is imported.

    Attributes:
        module: the module of ``newt.commands`` that defines it as ``command``.
        group: heading in ``newt --help``.
        help: its line there.
    """

    module: str
    group: str
    help: str


COMMANDS: dict[str, Entry] = {
    "check": Entry("check", "Before training", "Say everything that is wrong with a config."),
    "config-explain": Entry("config_explain", "Before training", "Say where the value of every key comes from."),
    "inspect": Entry("inspect", "Before training", "Show which tokens will be trained, and why."),
    "preprocess": Entry("preprocess", "Before training", "Tokenize the data into the cache, with a summary."),
    "train": Entry("train", "Training", "Train what the config describes."),
    "evaluate": Entry("evaluate", "After training", "Measure the trained model on the config's data."),
    "inference": Entry("inference", "After training", "Ask the trained model something."),
    "merge-lora": Entry("merge_lora", "After training", "Merge an adapter into its base model."),
    "import-gguf": Entry("import_gguf", "Tools", "Turn a GGUF file into a model folder."),
    "config-schema": Entry("config_schema", "Tools", "Print every key with its type, default and meaning."),
    "config-migrate": Entry("config_migrate", "Tools", "Give older keys of a config today's names."),
    "fetch": Entry("fetch", "Tools", "Copy the examples, DeepSpeed configs or docs."),
    "agent-docs": Entry("agent_docs", "Tools", "Print pages for coding agents, and for people in a hurry."),
    "completion": Entry("completion", "Tools", "Print the completion script of a shell."),
}


TO_COME = ("quantize", "vllm-serve", "lm-eval", "merge-sharded-fsdp-weights", "delinearize-llama4")
"""Commands of the field that Newt does not have yet."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in COMMANDS:
            return None
        command = import_module(f"newt.commands.{COMMANDS[name].module}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        if args[0] in TO_COME:
            raise click.UsageError(f"the command {args[0]} is known, but Newt does not support it yet.")
        if args[0] not in COMMANDS and not args[0].startswith("-"):
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
    """Run a command and exit: 0 done, 2 wrong input, 130 interrupted.

    Args:
        argv: arguments without the program's name. Default: those of the process.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        env.load_file(Path(".env"))
        env.set_process_defaults()
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
