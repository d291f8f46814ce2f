"""Adapters that are hard to merge, from ``newt train`` to the logits of the merged model."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny import logits
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, MixtralConfig, Qwen3MoeConfig

from newt.models.adapters import load_lora
from newt.models.kbit import is_quantized
from newt.models.quantize import RECORD, Held, held_by

SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "vocab_size": 608, "max_position_embeddings": 512, "eos_token_id": 2, "pad_token_id": 0,
    "bos_token_id": None,
}  # fmt: skip
V9 = {"v_proj": 9}
RANK = {"down_proj": 2}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
KINDS = {
    "gpt2": lambda: GPT2Config(
        n_embd=64, n_layer=2, n_head=4, vocab_size=608, n_positions=512, eos_token_id=2, bos_token_id=None
    ),
    "mixtral": lambda: MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": lambda: Qwen3MoeConfig(**SIZES, moe_intermediate_size=64, num_experts=4, num_experts_per_tok=2),
}


@pytest.fixture(scope="module")
def base_of(model_dir, tmp_path_factory):
    """Makes tiny random models, in several files so that the experts of a layer stand in different ones."""
    made = {"llama": model_dir}

    def make(kind):
        if kind not in made:
            torch.manual_seed(0)
            made[kind] = tmp_path_factory.mktemp(kind)
            config = KINDS[kind]()
            model = GPT2LMHeadModel(config) if kind == "gpt2" else AutoModelForCausalLM.from_config(config)
            model.save_pretrained(made[kind], max_shard_size="150KB")
            AutoTokenizer.from_pretrained(model_dir).save_pretrained(made[kind])
        return made[kind]

    return make


@pytest.fixture
def trained(newt, write_config, base_of):
    """Trains a case for three steps with steps large enough to be seen; returns the config."""

    def train(kind, **keys):
        config = write_config(
            base_model=str(base_of(kind)), max_steps=3, val_set_size=0, learning_rate=0.05, sample_packing=False, **keys
        )
        code, _, err = newt("train", config)
        assert code == 0, err
        return config

    return train


def with_adapter(base, adapter):
    """Base + adapter by peft, in float32, with the base's weights as training had them."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if (adapter / RECORD).is_file():
        found = json.loads((adapter / RECORD).read_text())
        Held(**{**found, "skip": tuple(found["skip"])}).put_into(model)
    return load_lora(model, adapter, trainable=False)


EXPERTS = {"lora_target_linear": None, "lora_target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
ATTENTION = {"lora_target_linear": None, "lora_target_modules": ["q_proj", "v_proj"]}
CONV1D = {"lora_target_linear": None, "lora_target_modules": ["c_attn", "c_proj", "c_fc"], "lora_fan_in_fan_out": True}
FOUR_BITS = {"adapter": "qlora", "load_in_4bit": True, "gradient_checkpointing": True}
CASES = {
    "tied, rows": ("llama", {"peft_trainable_token_indices": [5, 17, 2]}),
    "tied, rows of each end": ("llama", {"peft_trainable_token_indices": {"embed_tokens": [5, 17], "lm_head": [2]}}),
    "tied, new rows": ("llama", {"tokens": ["<a>", "<b>"], "peft_trainable_token_indices": [600, 601]}),
    "tied, ends in full": ("llama", {"lora_modules_to_save": ["embed_tokens", "lm_head"]}),
    "tied, LoRA on the embedding": ("llama", {"lora_target_modules": ["embed_tokens"]}),
    "ranks, scales": ("llama", {"lora_rank_pattern": {"q_proj": 2, "1.mlp.up_proj": 8}, "lora_alpha_pattern": V9}),
    "dora": ("llama", {"peft_use_dora": True}),
    "rank stabilized": ("llama", {"peft_use_rslora": True, "lora_rank_pattern": {"q_proj": 2}}),
    "another config": ("llama", {"overrides_of_model_config": ROPE}),
    "conv1d": ("gpt2", CONV1D),
    "conv1d, dora": ("gpt2", {**CONV1D, "peft_use_dora": True}),
    "conv1d, LoRA on the embedding": ("gpt2", {**CONV1D, "lora_target_modules": ["c_attn", "wte"]}),
    "conv1d, ends in full": ("gpt2", {**CONV1D, "lora_modules_to_save": ["wte", "lm_head"]}),
    "experts": ("qwen3_moe", EXPERTS),
    "experts by other names": ("mixtral", EXPERTS),
    "one kind of experts": ("mixtral", {**EXPERTS, "lora_target_parameters": "mlp.experts.down_proj"}),
    "experts, rank stabilized": ("qwen3_moe", {**EXPERTS, "peft_use_rslora": True, "lora_rank_pattern": RANK}),
    "experts by the names of layers": ("mixtral", {**ATTENTION, "lora_target_modules": ["q_proj", "w1", "w2", "w3"]}),
    "4 bits": ("llama", FOUR_BITS),
    "4 bits, conv1d": ("gpt2", {**FOUR_BITS, **CONV1D}),
    "4 bits, experts too": ("mixtral", {**FOUR_BITS, **ATTENTION, "quantize_moe_experts": True}),
    "4 bits, adapted experts": ("qwen3_moe", {**FOUR_BITS, **EXPERTS, "quantize_moe_experts": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_merged_model_computes_what_base_and_adapter_do(newt, trained, base_of, tmp_path, case):
    if "4 bits" in case:
        pytest.importorskip("bitsandbytes")
    kind, keys = CASES[case]
    config = trained(kind, **keys)
    code, _, err = newt("merge-lora", config)
    assert code == 0, err
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "merged", dtype=torch.float32)
    base = copy_with(base_of(kind), keys.get("overrides_of_model_config"), tmp_path / base_of(kind).name)
    expected = logits(with_adapter(base, tmp_path / "run"))
    plain = logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    assert (logits(merged) - expected).abs().max() < 1e-4
    assert (expected - plain).abs().max() > 1e-2, "an adapter without effect proves nothing"
    names = {path.name for path in base.glob("*.safetensors")}
    assert {path.name for path in (tmp_path / "run" / "merged").glob("*.safetensors")} == names


def copy_with(base, overrides, target):
    """The base, or a copy of it with another config."""
    if not overrides:
        return base
    shutil.copytree(base, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **overrides}))
    return target


def test_repeated_layers_are_refused_by_file_and_merged_in_memory(newt, trained, base_of, tmp_path):
    config = trained("llama", peft_layer_replication=[[0, 2], [1, 2]])
    code, _, err = newt("merge-lora", config)
    assert code == 2
    assert "An adapter with layer_replication cannot be merged by file: use merge_method: legacy" in err
    assert not (tmp_path / "run" / "merged").exists()
    assert newt("merge-lora", config, "--merge-method", "legacy")[0] == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "merged", dtype=torch.float32)
    assert merged.config.num_hidden_layers == 3
    expected = logits(with_adapter(base_of("llama"), tmp_path / "run"))
    assert (logits(merged) - expected).abs().max() < 1e-4


def test_a_checkpoint_knows_how_its_base_was_held(newt, trained, base_of, tmp_path):
    """Merging with a config that says nothing of 4 bits, as somebody who got the checkpoint alone would."""
    pytest.importorskip("bitsandbytes")
    config = trained("llama", **FOUR_BITS, save_steps=2, bnb_config_kwargs={"bnb_4bit_quant_type": "fp4"})
    checkpoint = tmp_path / "run" / "checkpoint-2"
    for name in (RECORD, "base_model.json"):
        assert (checkpoint / name).read_text() == (tmp_path / "run" / name).read_text()
    assert json.loads((checkpoint / RECORD).read_text())["kind"] == "fp4"
    plain = ("--adapter", "lora", "--no-load-in-4bit", "--bnb-config-kwargs", "null")
    code, out, err = newt(
        "merge-lora", config, *plain, "--lora-model-dir", checkpoint, "--merged-dir", tmp_path / "merged"
    )
    assert code == 0, err
    assert "held in 4 bits" in out + err
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert (logits(merged) - logits(with_adapter(base_of("llama"), checkpoint))).abs().max() < 1e-4


def test_inference_and_merging_agree_after_four_bits(newt, trained, base_of, tmp_path):
    pytest.importorskip("bitsandbytes")
    from newt.commands.shared import open_run
    from newt.models.generate import load_for_inference
    from newt.models.tokenizer import load_tokenizer

    config = trained("llama", **FOUR_BITS)
    assert newt("merge-lora", config)[0] == 0
    run = open_run(config)
    model = load_for_inference(run.load_plan(), load_tokenizer(run.cfg), tmp_path / "run")
    assert is_quantized(model.get_base_model())
    assert held_by(model.get_base_model()) is not None
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "merged", dtype=torch.float32)
    assert (logits(merged) - logits(model)).abs().max() < 1e-4


def test_restarts_with_moments_in_8_bits_resume_and_merge(newt, write_config, tmp_path):
    """A run that goes on from a checkpoint between two restarts ends with the same weights, bit for bit."""
    pytest.importorskip("bitsandbytes")
    keys = {
        "optimizer": "adamw_8bit", "optim_args": {"min_8bit_size": 64}, "relora": True, "jagged_restart_steps": 3,
        "jagged_restart_warmup_steps": 1,
        "max_steps": 8, "save_steps": 4, "val_set_size": 0, "sample_packing": False,
    }  # fmt: skip
    runs = [str(tmp_path / name) for name in ("run", "again")]
    code, _, err = newt("train", write_config(**keys))
    assert code == 0, err
    assert "ReLoRA: restart at step 3" in err
    resumed = write_config(**keys, output_dir=runs[1], resume_from_checkpoint=f"{runs[0]}/checkpoint-4")
    code, _, err = newt("train", resumed)
    assert code == 0, err
    for name in ("adapter_model.safetensors", "relora/model.safetensors"):
        one, other = (load_file(f"{folder}/{name}") for folder in runs)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    code, _, err = newt("merge-lora", resumed)
    assert code == 0, err
    merged = AutoModelForCausalLM.from_pretrained(f"{runs[1]}/merged", dtype=torch.float32)
    assert (logits(merged) - logits(with_adapter(f"{runs[1]}/relora", tmp_path / "again"))).abs().max() < 1e-4
