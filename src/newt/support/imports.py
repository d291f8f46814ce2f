"""Import large libraries faster."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection inside; what was made there is not looked through again.

    Importing torch and transformers makes millions of objects that stay until the end. Looking through them for
    garbage, again and again, is a fifth of the time that the imports take.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
