"""newt completion: commands, options and config keys at the press of Tab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

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


def options_of_keys(begun: str) -> list[str]:
    """Options that stand for keys of the config: ``--lora-r``, ``--no-sample-packing``, ``--trl.beta``.

    Args:
        begun: what is typed already. Keys of a block are offered when its dot is there.
    """
    found = {
        f"{dash}{key.replace('_', '-')}"
        for key, annotation in _keys("." in begun)
        for dash in ("--", *(["--no-"] if bool in _choices(annotation) else []))
    }
    return sorted(option for option in found if option.startswith(begun))


def values_of_key(option: str) -> list[str]:
    """The values that a key may have, where there are few: ``--save-strategy``."""
    wanted = option.removeprefix("--").replace("-", "_")
    annotation = dict(_keys("." in wanted)).get(wanted)
    words = {str(one).lower() if isinstance(one, bool) else str(one) for one in _choices(annotation) if one is not bool}
    return sorted(words | ({"true", "false"} if bool in _choices(annotation) else set()))


def _keys(nested: bool) -> Iterator[tuple[str, Any]]:
    """Keys with their types; those of blocks, with a dot, if they are asked for."""
    from newt.config.core import Dataset
    from newt.config.load import nested_sections
    from newt.registry import sections

    for section in sections():
        for key, field in section.model_fields.items():
            yield key, field.annotation
            for inner in nested_sections(field.annotation) if nested else ():
                if not issubclass(inner, Dataset):
                    yield from ((f"{key}.{name}", one.annotation) for name, one in inner.model_fields.items())


def _choices(annotation: Any) -> list[Any]:
    """The values of a Literal, and ``bool`` itself, in a type."""
    if annotation is bool:
        return [bool]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [one for inner in get_args(annotation) if not isinstance(inner, str) for one in _choices(inner)]
