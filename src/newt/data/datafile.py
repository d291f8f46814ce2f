"""One data file, wherever it is: what the readers of rows ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from newt.support.files import sha256_file


class DataFile(Protocol):
    """A file; ``str`` gives the name that messages show."""

    @property
    def name(self) -> str:
        """Last part of its path: the suffixes tell type and compression."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What reading it may raise."""

    def open(self) -> BinaryIO:
        """Its bytes from the beginning."""

    def table(self) -> Path | BinaryIO:
        """Its bytes for random access."""

    def fingerprint(self) -> str:
        """Changes when the content changes."""

    def why(self, error: Exception) -> str:
        """What is wrong, after ``open`` or reading raised one of ``errors``."""


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Nothing else than ``OSError``."""
        return (OSError,)

    def open(self) -> BinaryIO:
        """Its bytes from the beginning."""
        return self.path.open("rb")

    def table(self) -> Path:
        """The path, which is mapped into memory."""
        return self.path

    def fingerprint(self) -> str:
        """SHA-256 of the content."""
        return sha256_file(self.path)

    def why(self, error: Exception) -> str:
        """What the system says."""
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
