"""newt completion: commands, options and config keys at the press of Tab."""

from __future__ import annotations

from typing import Literal

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", epilog="For example: echo 'eval \"$(newt completion bash)\"' >> ~/.bashrc")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the completion script of a shell, for its start-up file."""
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root()
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(root.command, {}, "newt", "_NEWT_COMPLETE").source())
