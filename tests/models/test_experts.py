"""Experts in few bits: what is given back, what an adapter sees, and that nothing is kept in full."""

import json

import pytest
import torch
from tests.models.tiny import load, logits, stir
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3MoeConfig

from newt.models.experts import Packed, quantized_experts
from newt.models.four_bits import through_four_bits
from newt.models.kbit import holdings, size_of
from newt.models.merge import merge_lora
from newt.models.save import save_final
from newt.support.errors import NewtError

pytest.importorskip("bitsandbytes")

PARAMETERS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
QUANTIZED = {
    "adapter": "lora",
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_target_modules": ["q_proj", "v_proj"],
    "load_in_4bit": True,
    "quantize_moe_experts": True,
    "gradient_checkpointing": True,
    "float32": True,
}


@pytest.fixture(scope="module")
def moe_dir(tokenizer_dir, tmp_path_factory):
    """A random Qwen3 MoE: 2 layers, 4 experts, hidden 64."""
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        vocab_size=608,
        max_position_embeddings=512,
        eos_token_id=2,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("moe")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(folder)
    return folder


def plain(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize("double", [True, False])
def test_four_bit_experts_are_what_bitsandbytes_makes_of_them(moe_dir, double):
    keys = {**QUANTIZED, "bnb_config_kwargs": {"bnb_4bit_use_double_quant": double}}
    base = load(moe_dir, **keys).model.get_base_model()
    full = dict(plain(moe_dir).named_parameters())
    names = []
    for name, packed in quantized_experts(base):
        names.append(name)
        expected = through_four_bits(full[name].data, "nf4", double, on_cpu=True)
        assert torch.equal(packed(), expected)
        assert packed.values.numel() * 2 == expected.numel()
    assert sorted(names) == sorted(f"model.layers.{i}.{name}" for i in (0, 1) for name in PARAMETERS)


def test_eight_bit_experts_keep_each_row_within_half_a_step(moe_dir):
    base = load(moe_dir, **{**QUANTIZED, "load_in_4bit": False, "load_in_8bit": True}).model.get_base_model()
    full = dict(plain(moe_dir).named_parameters())
    found = list(quantized_experts(base))
    assert len(found) == 4
    for name, packed in found:
        assert packed.values.dtype == torch.int8
        step = full[name].abs().amax(dim=-1, keepdim=True) / 127
        assert ((packed() - full[name]).abs() <= 0.5001 * step).all()


def test_counts_are_those_of_the_full_model(moe_dir):
    full = plain(moe_dir)
    base = load(moe_dir, **QUANTIZED)
    assert sum(map(size_of, base.model.get_base_model().parameters())) - base.trainable == full.num_parameters()
    packed, total, size = holdings(base.model.get_base_model())
    assert packed > 0.5 * total
    assert size < 0.7 * 4 * full.num_parameters()
    assert any("are held in 4 bits" in line for line in base.notes)


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_the_model_computes_what_its_quantized_weights_say(moe_dir, implementation):
    quantized = load(moe_dir, **QUANTIZED, experts_implementation=implementation).model
    full = plain(moe_dir)
    from newt.models.quantize import held_by

    held = held_by(quantized.get_base_model())
    assert held.experts
    held.put_into(full)
    assert torch.allclose(logits(quantized), logits(full), atol=2e-5)


def is_empty(model):
    found = [p for p in model.parameters() if p.dim() == 3]
    return len(found) == 4 and all(p.isnan().all() and p.untyped_storage().nbytes() <= 4 for p in found)


def test_parameters_are_given_back_once_in_a_forward_pass_and_not_kept(moe_dir, monkeypatch):
    count = 0
    original = Packed.forward

    def counted(self):
        nonlocal count
        count += 1
        return original(self)

    model = load(moe_dir, **QUANTIZED, experts_implementation="eager").model
    monkeypatch.setattr(Packed, "forward", counted)
    logits(model)
    assert count == 4
    assert is_empty(model)


def test_a_pass_that_breaks_off_keeps_nothing(moe_dir):
    model = load(moe_dir, **QUANTIZED).model.get_base_model()
    with pytest.raises(RuntimeError):
        model.model.layers[0].mlp.experts(torch.zeros(3, 5), torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 2))
    assert is_empty(model)


@pytest.mark.parametrize("reentrant", [False, True])
def test_an_adapter_on_quantized_experts_is_trained(moe_dir, reentrant):
    keys = {**QUANTIZED, "lora_target_parameters": PARAMETERS}
    keys["gradient_checkpointing_kwargs"] = {"use_reentrant": reentrant}
    model = load(moe_dir, **keys).model
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    stir(model)
    model.train()
    ids = torch.arange(3, 67).reshape(2, 32)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert sum("experts" in name for name in trained) == 8
    assert all(grad is not None and grad.abs().sum() > 0 for grad in trained.values())
    assert is_empty(model.get_base_model())


def test_an_adapter_of_quantized_experts_fits_the_full_model(moe_dir, tmp_path):
    from peft import PeftModel

    keys = {**QUANTIZED, "lora_target_parameters": PARAMETERS}
    found = load(moe_dir, **keys)
    stir(found.model)
    expected = logits(found.model)
    from tests.helpers import make_config

    save_final(found.model, found.tokenizer, tmp_path, make_config(base_model=str(moe_dir), **keys))
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert sorted(settings["target_parameters"]) == sorted(PARAMETERS)
    from newt.models.quantize import held_by

    full = plain(moe_dir)
    held_by(found.model.get_base_model()).put_into(full)
    assert torch.allclose(logits(PeftModel.from_pretrained(full, str(tmp_path))), expected, atol=2e-5)


@pytest.mark.parametrize("method", ["memory_efficient", "legacy"])
def test_merging_begins_with_the_quantized_experts(moe_dir, tmp_path, method):
    from tests.helpers import make_config

    found = load(moe_dir, **QUANTIZED)
    stir(found.model)
    expected = logits(found.model)
    cfg = make_config(base_model=str(moe_dir), **QUANTIZED)
    save_final(found.model, found.tokenizer, tmp_path / "adapter", cfg)
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", method=method)
    assert torch.allclose(logits(plain(tmp_path / "merged")), expected, atol=5e-5)


def test_experts_that_would_stay_in_full_are_an_error_or_said(moe_dir):
    keys = {**QUANTIZED, "quantize_moe_experts": None}
    with pytest.raises(NewtError, match=r"quantize_moe_experts: 147,456 of .* are experts, which stay in 16"):
        load(moe_dir, **keys)
    found = load(moe_dir, **{**QUANTIZED, "quantize_moe_experts": False})
    assert any("147,456 of" in line and "quantizes them too" in line for line in found.notes)
