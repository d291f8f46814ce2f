"""What a command says: results to stdout, remarks and warnings to stderr, and only once for all processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from newt.support import env

QUIET_SECONDS = 10.0
"""Without a terminal, a progress line comes this often."""

DIM, YELLOW, RESET = "\x1b[2m", "\x1b[33m", "\x1b[0m"


INFO, WARNING, ERROR = 20, 30, 40
LEVELS = {"DEBUG": 10, "INFO": INFO, "WARNING": WARNING, "WARN": WARNING, "ERROR": ERROR, "CRITICAL": 50}


def say(text: str) -> None:
    """Print a result to stdout."""
    if env.rank() == 0:
        print(text, flush=True)


def note(text: str) -> None:
    """Print a remark to stderr."""
    if _level() <= INFO:
        _to_stderr(text, DIM)


@cache
def warn(text: str) -> None:
    """Print a warning to stderr, the same text only once."""
    if _level() <= WARNING:
        _to_stderr(f"warning: {text}", YELLOW)


def _level() -> int:
    """``NEWT_LOG_LEVEL`` as a number; an unknown name means INFO."""
    return LEVELS.get(env.setting("LOG_LEVEL").strip().upper(), INFO)


def _to_stderr(text: str, colour: str) -> None:
    if env.rank() == 0:
        coloured = sys.stderr.isatty() and not env.read("NO_COLOR")
        print(f"{colour}{text}{RESET}" if coloured else text, file=sys.stderr, flush=True)


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far something is: a bar on a terminal, else a line every ten seconds.

    Gives a function that takes the number of steps done since its last call::

        with progress("Tokenizing", len(rows)) as advance:
            for row in rows:
                ...
                advance(1)
    """
    if env.rank() != 0:
        yield lambda steps: None
    elif sys.stderr.isatty():
        with _bar(description, total) as advance:
            yield advance
    else:
        yield _Lines(description, total)


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(description, total=total)
        yield lambda steps: shown.advance(task, steps)


class _Lines:
    """Progress as plain lines; nothing is printed when the work is short."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description = description
        self.total = total
        self.done = 0
        self.spoke = time.monotonic()

    def __call__(self, steps: int) -> None:
        self.done += steps
        if time.monotonic() - self.spoke < QUIET_SECONDS:
            return
        self.spoke = time.monotonic()
        share = f" of {self.total} ({self.done / self.total:.0%})" if self.total else ""
        print(f"{self.description}: {self.done}{share}", file=sys.stderr, flush=True)
