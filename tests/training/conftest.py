"""A run in a few lines: made-up rows, a tiny model, and the settings that a test changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import torch

torch.set_num_threads(1)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
