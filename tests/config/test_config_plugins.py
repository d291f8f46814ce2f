"""Plugins are Newt's own, and their keys need them."""

from __future__ import annotations

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize("path", ["LigerPlugin", "axolotl.integrations.liger.LigerPlugin", "a.b.KernelsPlugin"])
def test_a_known_plugin_is_not_a_mistake(path: str) -> None:
    assert complaints(plugins=[path]) == []
    assert unsupported(plugins=[path]) == {"plugins"}


def test_a_misspelled_plugin() -> None:
    (message,) = complaints(plugins=["LigrPlugin"])
    assert message == "plugins: unknown plugin 'LigrPlugin'. Did you mean LigerPlugin?"


def test_a_key_of_a_plugin_says_which_line_to_add() -> None:
    (message,) = complaints(grokfast_lamb=2.0)
    assert message == "grokfast_lamb: needs GrokfastPlugin. Add the line '- GrokfastPlugin' below plugins:."
    assert complaints(liger_rope=False, cut_cross_entropy=False, dense_mixer=False) == []


def test_a_removed_key_that_is_false_asks_for_nothing() -> None:
    assert complaints(unsloth_lora_mlp=False, s2_attention=False, flash_attn_rms_norm=False) == []
