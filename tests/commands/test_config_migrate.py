"""Old keys get new names, and nothing else changes."""

from __future__ import annotations

import pytest
import yaml

from newt.commands.config_migrate import check_same, migrate
from newt.support.errors import NewtError

OLD = """\
# A comment at the top.
base_model: x/y   # the base
evaluation_strategy: "steps"   # quoted

flash_attention: true # fast
xformers_attention:
sdp_attention: false   # goes with its line
gradient_checkpointing: offload  # saves memory
# stays
unsloth_lora_mlp: false
'noisy_embedding_alpha':    5
learning_rate: 1e-4
fsdp_config:
    fsdp_offload_params: true   # slow
datasets:
  - {path: a, type: alpaca}   # in braces
"""

NEW = """\
# A comment at the top.
base_model: x/y   # the base
eval_strategy: "steps"   # quoted

attn_implementation: flash_attention_2 # fast
gradient_checkpointing: true  # saves memory
activation_offloading: true
# stays
neftune_noise_alpha:    5
learning_rate: 1e-4
fsdp_config:
    offload_params: true   # slow
datasets:
  - {path: a, type: alpaca}   # in braces
"""


def test_the_text_keeps_everything_else():
    migration = migrate(OLD)
    assert migration.text == NEW
    assert migration.by_hand == []
    assert "3: evaluation_strategy -> eval_strategy" in migration.done
    assert "5: flash_attention: true -> attn_implementation: flash_attention_2" in migration.done
    assert migrate(NEW).text == NEW


def test_write_keeps_the_old_file(newt, tmp_path):
    config = tmp_path / "c.yml"
    config.write_text(OLD)
    config.chmod(0o640)
    code, out, err = newt("config-migrate", config)
    assert code == 0, err
    assert "-evaluation_strategy:" in out
    assert "+eval_strategy:" in out
    assert out.endswith("Nothing was written. Add --write to do it.\n")
    assert config.read_text() == OLD
    assert newt("config-migrate", config, "--write")[0] == 0
    assert config.read_text() == NEW
    assert config.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "c.yml.bak").read_text() == OLD
    code, out, _ = newt("config-migrate", config, "--write")
    assert (code, out) == (0, f"{config}: nothing to do.\n")
    config.write_text("evaluation_strategy: no\n")
    assert newt("config-migrate", config, "--write")[0] == 0
    assert (tmp_path / "c.yml.bak").read_text() == OLD
    assert (tmp_path / "c.yml.bak2").read_text() == "evaluation_strategy: no\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yml", "c.yml.bak", "c.yml.bak2"]


def test_windows_newlines_stay(newt, tmp_path):
    config = tmp_path / "c.yml"
    config.write_bytes(b"dpo_beta: 0.1\r\ngradient_checkpointing: offload\r\nseed: 1\r\n")
    assert newt("config-migrate", config, "--write")[0] == 0
    expected = b"rl_beta: 0.1\r\ngradient_checkpointing: true\r\nactivation_offloading: true\r\nseed: 1\r\n"
    assert config.read_bytes() == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dpo_beta: 0.1", "rl_beta: 0.1"),
        ("dpo_beta:\nseed: 1\n", "seed: 1\n"),
        ("dpo_beta: 0.1\nrl_beta: 0.1\n", "rl_beta: 0.1\n"),
        ("gradient_checkpointing: offload_disk", "gradient_checkpointing: true\nactivation_offloading: disk"),
        (
            "gradient_checkpointing: offload\nactivation_offloading: true\n",
            "gradient_checkpointing: true\nactivation_offloading: true\n",
        ),
        ("sdp_attention: true\nattn_implementation: sdpa\n", "attn_implementation: sdpa\n"),
        ("flex_attention: true\nflash_attention: true\n", "attn_implementation: flex_attention\n"),
        ("{dpo_beta: 0.1, seed: 1}", "{rl_beta: 0.1, seed: 1}"),
        ("flash_attention: false\n", "flash_attention: false\n"),
        ("gradient_checkpointing: true\n", "gradient_checkpointing: true\n"),
        ("\ufeffdpo_beta: 0.1\n", "\ufeffrl_beta: 0.1\n"),
        ("unsloth_lora_qkv: false\n# end\nseed: 2", "# end\nseed: 2"),
    ],
)  # fmt: skip
def test_rules(old, new):
    migration = migrate(old)
    assert migration.text == new
    assert yaml.safe_load(migration.text.lstrip("\ufeff")) == migration.values
    assert migration.by_hand == []


@pytest.mark.parametrize(
    ("old", "why"),
    [
        ("dpo_beta: 0.1\nrl_beta: 0.2\n", "1: dpo_beta: is another name of rl_beta"),
        ("flash_attention: true\nattn_implementation: sdpa\n", "1: flash_attention: cannot be used"),
        ("seed: 1\nmax_packed_sequence_len: 5\n", "2: max_packed_sequence_len: is gone."),
        ("unsloth_lora_mlp: true\n", "1: unsloth_lora_mlp: is gone."),
        ("{gradient_checkpointing: offload}", "1: gradient_checkpointing: is to be changed by hand"),
        ("b: &b {dpo_beta: 0.1}\n<<: *b\n", "0: dpo_beta: is to be changed by hand, because it comes from a merge"),
        ("a: &a offload\ngradient_checkpointing: *a\n", "2: gradient_checkpointing: is to be changed by hand"),
    ],
)
def test_what_the_user_must_decide(old, why):
    migration = migrate(old)
    assert migration.text == old
    assert len(migration.by_hand) == 1
    assert migration.by_hand[0].startswith(why)


def test_a_migration_that_changes_the_meaning_is_refused(tmp_path):
    old = "evaluation_strategy: steps\n"
    migration = migrate(old)
    migration.text = "eval_strategy: epoch\n"
    with pytest.raises(NewtError, match="would not mean the same"):
        check_same(tmp_path / "c.yml", old, migration)
    migration.values = {"eval_strategy": "epoch"}
    with pytest.raises(NewtError, match=r"\(eval_strategy\)"):
        check_same(tmp_path / "c.yml", old, migration)


def test_a_file_that_is_not_a_config(newt, tmp_path):
    config = tmp_path / "c.yml"
    config.write_text("a: [\n")
    code, _, err = newt("config-migrate", config)
    assert code == 2
    assert f"{config}:2: is not valid YAML" in err
