"""Completion scripts, and what they offer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from newt.cli import newt as root


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --no-files")]
)
def test_scripts(newt, shell, word):
    code, out, _ = newt("completion", shell)
    assert code == 0
    assert word in out
    assert "_NEWT_COMPLETE" in out
    assert newt("completion", "tcsh")[0] == 2


def offered(*words: str) -> list[str]:
    return [
        item.value
        for item in ShellComplete(root, {}, "newt", "_NEWT_COMPLETE").get_completions(list(words[:-1]), words[-1])
    ]


def test_what_is_offered():
    assert "config-explain" in offered("config")
    assert offered("train", "c.yml", "--lora-al")[0] == "--lora-alpha"
    assert "--sweep" in offered("train", "c.yml", "--s")
    assert "sft" in offered("agent-docs", "s")


def test_keys_of_blocks_flags_and_values_are_offered():
    assert "--trl.beta" in offered("train", "c.yml", "--trl.")
    assert "--trl.beta" not in offered("train", "c.yml", "--tr")
    assert offered("train", "c.yml", "--no-sample-packing-s") == ["--no-sample-packing-sequentially"]
    assert offered("train", "c.yml", "--no-lora-r") == []
    assert offered("train", "c.yml", "--save-strategy", "st") == ["steps"]
    assert set(offered("train", "c.yml", "--bf16", "")) == {"auto", "false", "full", "true"}


def test_the_script_completes_in_bash(newt, tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = newt("completion", "bash")[1]
    words = "(newt train c.yml --lora-alpha-p)"
    script += f"\nCOMP_WORDS={words}\nCOMP_CWORD=3\n_newt_completion newt\n"
    command = [bash, "--norc", "-c", script + 'echo "${COMPREPLY[@]}"']
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path})
    assert done.stdout.strip() == "--lora-alpha-pattern"
