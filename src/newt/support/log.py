"""What a command says: results to stdout, remarks and warnings to stderr, and only once for all processes."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from newt.support import env

QUIET_SECONDS = 10.0
"""Without a terminal, a progress line comes this often."""

DIM, YELLOW, RESET = "\x1b[2m", "\x1b[33m", "\x1b[0m"


INFO, WARNING, ERROR = 20, 30, 40
LEVELS = {"DEBUG": 10, "INFO": INFO, "WARNING": WARNING, "WARN": WARNING, "ERROR": ERROR, "CRITICAL": 50}


class _Journal:
    """What was said, whatever the level that is shown; kept until there is a file for it."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.lines: deque[str] = deque(maxlen=10_000)

    def add(self, level: str, text: str) -> None:
        self.lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {level} {text}\n")
        if self.path is not None and env.rank() == 0:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.writelines(self.lines)
            except OSError:  # a full disk stops the run elsewhere, with a message
                self.path = None
            self.lines.clear()


_journal = _Journal()


CHATTY = ("torchao", "torch.utils._pytree", "bitsandbytes.backends.cpu.ops")
"""Loggers that warn, when their library is imported, of kernels that are not there and never used here."""


def quiet_libraries() -> None:
    """Let ``CHATTY`` report errors alone; peft and transformers import these libraries wherever they are installed."""
    import logging

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def mirrored(path: Path, first: str = "") -> Iterator[None]:
    """Append everything that is said to a file, with time and level; also what was said before.

    Args:
        path: the file; its folder exists.
        first: stands only in the file.
    """
    _journal.path = path
    try:
        if first:
            _journal.add("INFO", first)
        yield
    finally:
        _journal.path = None


def say(text: str) -> None:
    """Print a result to stdout."""
    _journal.add("INFO", text)
    if env.rank() == 0:
        print(text, flush=True)


def note(text: str) -> None:
    """Print a remark to stderr."""
    _journal.add("INFO", text)
    if _level() <= INFO:
        _to_stderr(text, DIM)


@cache
def warn(text: str) -> None:
    """Print a warning to stderr, the same text only once."""
    _journal.add("WARNING", text)
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
