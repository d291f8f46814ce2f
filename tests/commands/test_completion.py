"""Completion scripts, and what they offer."""

from __future__ import annotations

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
