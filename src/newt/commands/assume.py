"""``--assume gpus=8,capability=9.0``: answers for a machine that is not at hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import click

NAMES = ("gpus", "capability", "cpu_bf16", "packages")
EXAMPLE = "gpus=8,capability=9.0,cpu_bf16=true,packages=flash-attn+liger-kernel"
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

F = TypeVar("F", bound=Callable[..., Any])


def parse_assumed(text: str) -> dict[str, Any]:
    """Read ``gpus=8,capability=9.0,cpu_bf16=true,packages=flash-attn+liger-kernel``.

    Returns:
        Fields of ``extend.Facts``. What is not named is as on a machine without GPUs; packages are those that are
        installed here, and the ones that are named.

    Raises:
        ValueError: one line that says what is wrong.
    """
    given: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in item.partition("="))
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1)
            raise ValueError(f"{name!r} cannot be assumed. " + (f"Did you mean {near[0]}?" if near else _valid()))
        if not equals or not value:
            raise ValueError(f"{name} needs a value. {_valid()}")
        if name in given:
            raise ValueError(f"{name} is given twice.")
        given[name] = value
    if not given:
        raise ValueError(f"nothing is assumed. {_valid()}")
    found = {
        "gpus": 0,
        "capability": None,
        "cpu_bf16": False,
        **{name: _READ[name](value) for name, value in given.items()},
    }
    if found["gpus"] and not found["capability"]:
        raise ValueError("gpus needs capability: 8.0 (A100), 8.9 (L40S), 9.0 (H100), 10.0 (B200).")
    if found["capability"] and not found["gpus"]:
        raise ValueError("capability needs gpus: how many there are.")
    return found


def _valid() -> str:
    return f"For example {EXAMPLE}."


def _gpus(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text):
        raise ValueError(f"gpus must be a whole number, got {text!r}.")
    return int(text)


def _capability(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", text)
    if not found:
        raise ValueError(f"capability must be like 9.0, got {text!r}.")
    return int(found[1]), int(found[2])


def _flag(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError(f"cpu_bf16 must be true or false, got {text!r}.")
    return _WORDS[text.lower()]


def _packages(text: str) -> Mapping[str, str]:
    from newt.models.facts import installed

    named = [item.strip().lower() for item in text.split("+")]
    if not all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*(==[\w.+!-]+)?", item) for item in named):
        raise ValueError(f"packages must be names with + between them, got {text!r}.")
    return {**installed(), **{item.partition("==")[0]: item.partition("==")[2] or "assumed" for item in named}}


_READ: Mapping[str, Callable[[str], Any]] = {
    "gpus": _gpus,
    "capability": _capability,
    "cpu_bf16": _flag,
    "packages": _packages,
}


def _read_option(_context: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return parse_assumed(text)
    except ValueError as error:
        raise click.UsageError(f"--assume: {error}") from None


def assume_option(function: F) -> F:
    """The option ``--assume``; the command gets fields of ``extend.Facts``, or None."""
    text = f"Answer for another machine: {EXAMPLE}."
    return click.option("--assume", metavar="FACTS", callback=_read_option, help=text)(function)
