"""Fixtures that read a config from YAML text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.config.config_parts import ALL, MINIMAL, ByType

from newt.config.load import Loaded, load

Read = Callable[..., Loaded]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read a YAML text from the file ``c.yml``; the minimal keys come after it unless it is whole."""
    monkeypatch.chdir(tmp_path)

    def run(text: str = "", overrides: Mapping[str, Any] | Sequence[str] = (), *, whole: bool = False) -> Loaded:
        Path("c.yml").write_text(text if whole else text + MINIMAL)
        return load("c.yml", overrides, sections=ALL, entry_type=ByType())

    return run


@pytest.fixture
def lines(read: Read) -> Callable[..., list[str]]:
    """The problems of a YAML text as lines."""
    return lambda *args, **kwargs: [str(problem) for problem in read(*args, **kwargs).problems]
