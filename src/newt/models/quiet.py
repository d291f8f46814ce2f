"""Keep transformers from talking over our own messages."""

from __future__ import annotations

import logging as standard_logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging

# On a CPU bitsandbytes looks for a faster kernel of the Hub's when it is imported (by peft, wherever it is installed),
# and warns when there is none. That kernel serves a path that is never taken here: see ``kbit.settle``.
standard_logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(standard_logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """Only errors of transformers are shown inside, and its progress bars only on a terminal."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def no_bars() -> Iterator[None]:
    """No progress bars of transformers inside, where they would stand between our own lines."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
