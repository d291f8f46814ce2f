"""An adapter with a random beginning fits the base as it is, in plain peft and in a merge."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.helpers import make_config
from tests.models.tiny import LORA, load, logits, stir
from transformers import AutoModelForCausalLM

from newt.models.merge import merge_lora
from newt.models.save import save_final
from newt.support.errors import NewtError

RANDOM = {**LORA, "peft_init_lora_weights": "pissa_niter_2"}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"peft_use_rslora": True},
        {"peft_use_dora": True},
        {"lora_rank_pattern": {"q_proj": 2}, "lora_alpha_pattern": {"v_proj": 32}},
    ],
    ids=["plain", "rank stabilized", "dora", "patterns"],
)
def test_plain_peft_computes_what_was_trained(model_dir, tmp_path, keys):
    loaded = load(model_dir, **RANDOM, **keys)
    stir(loaded.model)
    cfg = make_config(base_model=str(model_dir), **RANDOM, **keys)
    save_final(loaded.model, loaded.tokenizer, tmp_path / "out", cfg)
    torch.manual_seed(99)
    base = AutoModelForCausalLM.from_pretrained(model_dir)
    plain = logits(base)
    again = PeftModel.from_pretrained(base, str(tmp_path / "out"))
    expected = logits(loaded.model)
    assert torch.allclose(logits(again), expected, atol=2e-6)
    assert not torch.allclose(plain, expected, atol=1e-3)
    report = merge_lora(cfg, tmp_path / "out", tmp_path / "merged")
    assert report.merged == 14


def test_the_rank_is_twice_the_rank_of_the_run(model_dir, tmp_path):
    loaded = load(model_dir, **RANDOM)
    save_final(loaded.model, loaded.tokenizer, tmp_path, make_config(base_model=str(model_dir), **RANDOM))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16, True)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert {w.shape[0] for name, w in weights.items() if "lora_A" in name} == {8}
    assert torch.equal(
        logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), str(tmp_path))).argmax(-1),
        logits(AutoModelForCausalLM.from_pretrained(model_dir)).argmax(-1),
    ), "an adapter that was not trained has no effect"


def test_a_checkpoint_with_such_a_beginning_is_not_merged(model_dir, tmp_path):
    loaded = load(model_dir, **RANDOM)
    loaded.model.save_pretrained(tmp_path / "checkpoint")
    for method in ("memory_efficient", "legacy"):
        with pytest.raises(NewtError, match="takes a random part out of the base"):
            merge_lora(make_config(base_model=str(model_dir)), tmp_path / "checkpoint", tmp_path / "m", method=method)
