"""A model in few bits: safe after loading, counted rightly."""

import pytest
import torch
from tests.models.tiny import LORA, load, logits, stir
from torch import nn
from transformers import AutoModelForCausalLM

from newt.models.kbit import describe, format_of, gives_back, holdings, prepare_for_adapter, settle, size_of
from newt.support.errors import NewtError

bitsandbytes = pytest.importorskip("bitsandbytes")

FOUR = {**LORA, "load_in_4bit": True, "float32": True}


def gradients(model):
    model.train()
    ids = torch.arange(3, 67).reshape(2, 32)
    model.zero_grad()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_an_evaluation_changes_no_weight_and_no_gradient(model_dir):
    model = load(model_dir, **FOUR).model
    stir(model)
    linears = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert len(linears) == 14
    assert not any(module.support_avx512bf16_for_cpu for module in linears)
    packed = [module.weight.data.view(torch.uint8).clone() for module in linears]
    before = gradients(model)
    logits(model)
    assert all(torch.equal(m.weight.data.view(torch.uint8), old) for m, old in zip(linears, packed, strict=True))
    after = gradients(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(grad.abs().sum() > 0 for grad in after.values())


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_reach_the_first_layer_with_checkpointing(model_dir, reentrant):
    kwargs = {"use_reentrant": reentrant}
    keys = {**FOUR, "gradient_checkpointing": True, "gradient_checkpointing_kwargs": kwargs}
    model = load(model_dir, **keys).model
    stir(model)
    expected = gradients(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
    found = gradients(model)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    assert all(grad.abs().sum() > 0 for grad in found.values())


@pytest.mark.parametrize("key", ["load_in_4bit", "load_in_8bit"])
def test_counts_are_those_of_the_full_model(model_dir, key):
    full = AutoModelForCausalLM.from_pretrained(model_dir)
    found = load(model_dir, **{**LORA, key: True, "float32": True})
    assert found.total - found.trainable == full.num_parameters()
    packed, total, size = holdings(found.model.get_base_model())
    linear = sum(module.weight.numel() for module in full.modules() if isinstance(module, nn.Linear)) - 608 * 64
    assert packed == linear
    bits = 4.2 if key == "load_in_4bit" else 8.6
    rest = full.num_parameters() - linear
    adapter = found.trainable
    assert total == full.num_parameters() + adapter
    assert size < linear * bits / 8 + 4 * (rest + adapter)
    word = "4 bits" if "4" in key else "8 bits"
    assert f"are held in {word}" in describe(found.model.get_base_model())


def test_number_formats(model_dir):
    model = load(model_dir, **FOUR).model.get_base_model()
    layer = model.model.layers[0].self_attn.q_proj
    assert (format_of(layer.base_layer.weight), size_of(layer.base_layer.weight)) == ("nf4", 64 * 64)
    assert format_of(model.model.norm.weight) == "float32"
    eight = load(model_dir, **{**FOUR, "load_in_4bit": False, "load_in_8bit": True}).model.get_base_model()
    assert format_of(eight.model.layers[0].self_attn.q_proj.base_layer.weight) == "int8"


def test_norms_and_ends_are_held_in_the_format_of_the_arithmetic(model_dir):
    model = load(model_dir, **LORA, load_in_4bit=True, bfloat16=True).model.get_base_model()
    for module in (model.model.norm, model.model.embed_tokens, model.lm_head):
        assert module.weight.dtype == torch.bfloat16
        assert not module.weight.requires_grad
    layer = model.model.layers[0].self_attn.q_proj.base_layer
    assert layer.compute_dtype == torch.bfloat16


@pytest.mark.parametrize(("columns", "right"), [(64, True), (128, True), (40, True)])
def test_widths_that_are_given_back_rightly(columns, right):
    assert gives_back(columns, "nf4") is right


def test_a_width_that_bitsandbytes_gives_back_wrongly_is_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.down_proj = bitsandbytes.nn.Linear4bit(96, 64, quant_type="nf4")

    model = Model()
    model.down_proj.to("cpu")
    if gives_back(96, "nf4"):
        settle(model)
        return
    with pytest.raises(NewtError, match=r"no multiple of 64 .* \{llm_int8_skip_modules: \[down_proj\]\}"):
        settle(model)


def test_preparing_freezes():
    model = nn.Linear(2, 2)
    prepare_for_adapter(model, None)
    assert not any(p.requires_grad for p in model.parameters())


def test_a_model_whose_layers_bitsandbytes_passes_by_is_refused(model_dir):
    """Falcon's linear layers are derived from those of torch, and stay as they are without a word."""
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    model.is_loaded_in_4bit = True
    with pytest.raises(NewtError, match=r"load_in_4bit: bitsandbytes quantizes none of this model's layers \(Linear\)"):
        settle(model)
