"""Two runs with one seed end with the same bytes, whatever was drawn before them."""

from __future__ import annotations

import pytest
import torch

KINDS = {
    "dropout, packed": {"lora_dropout": 0.2, "sample_packing": True},
    "dropout, rows": {"lora_dropout": 0.2, "sample_packing": False, "gradient_accumulation_steps": 2},
    "dora, orthogonal": {"peft_use_dora": True, "peft_init_lora_weights": "orthogonal", "lora_dropout": 0.1},
    "restarts": {
        "relora": True, "jagged_restart_steps": 2, "jagged_restart_warmup_steps": 1, "relora_prune_method": "random",
        "relora_prune_ratio": 0.5,
    },
    "layers by turns": {
        "adapter": None, "lora_r": None, "lora_alpha": None, "lora_target_linear": None,
        "lisa_n_layers": 1, "lisa_step_interval": 2, "overrides_of_model_config": {"attention_dropout": 0.1},
    },
}  # fmt: skip


@pytest.fixture
def weights(newt, write_config, tmp_path):
    """Trains with a seed; the bytes of the weights that it ends with."""

    def train(kind, seed, number):
        torch.rand(number)  # what was drawn before must not matter
        out = tmp_path / f"run{number}"
        settings = {"val_set_size": None, "report_samples": 0, "output_dir": str(out), "seed": seed, "max_steps": 5}
        code, _, err = newt("train", write_config(**{**settings, **KINDS[kind]}))
        assert code == 0, err
        return next(out.glob("*model.safetensors")).read_bytes()

    return train


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_the_same_weights(weights, kind):
    assert weights(kind, 7, 0) == weights(kind, 7, 1)


def test_another_seed_gives_others(weights):
    assert weights("dropout, rows", 7, 0) != weights("dropout, rows", 8, 1)


def test_several_threads_change_nothing_from_run_to_run(weights):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert weights("dropout, packed", 7, 0) == weights("dropout, packed", 7, 1)
    finally:
        torch.set_num_threads(before)
