"""Ctrl-C and SIGTERM: finish the step, write a checkpoint, stop. A second signal exits at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from newt.support.log import note

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Remembers the first signal of a run.

    Attributes:
        received: its number, or None.
        agreed: some rank received one; set by the trainer when all ranks know.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.agreed = False
        self.alone = True

    @property
    def due(self) -> bool:
        """Whether the run stops after this step. Ranks must stop together, so with several only ``agreed`` counts."""
        return self.agreed or (self.alone and self.received is not None)

    @property
    def name(self) -> str | None:
        """Name of the signal, such as SIGTERM."""
        return signal.Signals(self.received).name if self.received else ("SIGTERM" if self.agreed else None)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch signals inside the block; does nothing outside the main thread, where Python cannot."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in CAUGHT}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        name = signal.Signals(number).name
        note(f"{name}: finishing this step, then writing a checkpoint. A second signal exits at once.")
