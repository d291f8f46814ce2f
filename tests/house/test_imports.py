"""What a command may import before it is known that heavy libraries are needed."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "datasets", "pyarrow", "numpy", "peft", "trl", "accelerate", "pandas", "tokenizers"}
LIGHT = (
    "newt",
    "newt.api",
    "newt.cli",
    "newt.registry",
    "newt.extend",
    "newt.commands.check",
    "newt.commands.train",
    "newt.commands.config_schema",
)


@pytest.mark.parametrize("module", LIGHT)
def test_importing_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == []
