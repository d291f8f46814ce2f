"""What several tests of known mistakes need."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.golden.attempts import Find, Try


@pytest.fixture
def attempt(tmp_path: Path, model_dir: Path, real_tokenizer: Find) -> Try:
    """Tokenizes rows in a folder of its own."""
    return Try(tmp_path, model_dir, real_tokenizer)
