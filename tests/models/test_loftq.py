import json

import pytest
import torch
from peft import PeftModel
from tests.helpers import make_config
from tests.models.tiny import LORA, load, logits, stir
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from newt.models.adapters import load_lora
from newt.models.four_bits import through_four_bits
from newt.models.loftq import bits_of, rounded
from newt.models.merge import merge_lora
from newt.models.portable import lora_layers
from newt.models.save import save_final
from newt.support.errors import NewtError

FOUR = {**LORA, "peft": {"loftq_config": {"loftq_bits": 4}}}
EIGHT = {**LORA, "peft": {"loftq_config": {"loftq_bits": 8}}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rounding_is_that_of_bitsandbytes(dtype):
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = (torch.randn(96, 128, generator=torch.Generator().manual_seed(0)) * 0.02).to(dtype)
    packed, state = functional.quantize_4bit(weight.float(), quant_type="nf4", compress_statistics=False)
    theirs = functional.dequantize_4bit(packed, state).to(dtype)
    assert torch.equal(rounded(weight, 4), theirs)
    codes, rows, _ = functional.int8_vectorwise_quant(weight.half())
    theirs = functional.int8_vectorwise_dequant(codes, rows).to(dtype)
    assert torch.equal(rounded(weight, 8), theirs)


def test_a_row_of_zeros_stays_zero():
    assert not rounded(torch.zeros(2, 64), 8).any()


@pytest.mark.parametrize("keys", [FOUR, EIGHT, {**FOUR, "lora_alpha": 3}, {**FOUR, "peft_use_rslora": True}])
def test_every_layer_is_nearer_to_the_full_weight_than_its_rounding(model_dir, keys):
    full = AutoModelForCausalLM.from_pretrained(model_dir).state_dict()
    model = load(model_dir, **keys).model
    bits = keys["peft"]["loftq_config"]["loftq_bits"]
    for name, layer in lora_layers(model):
        weight = full[name.removeprefix("base_model.model.") + ".weight"]
        base = layer.get_base_layer().weight
        assert torch.equal(base, rounded(weight, bits))
        change = (layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach()
        lost = weight - base.detach()
        assert (lost - change).norm() < 0.97 * lost.norm()
        # No matrix of this rank is nearer: Eckart and Young.
        best = torch.linalg.svdvals(lost)[4:].square().sum().sqrt()
        assert float((lost - change).norm()) == pytest.approx(float(best), rel=1e-3)


def test_the_loss_at_first_is_nearer_to_that_of_the_full_model_than_with_qlora(model_dir, tmp_path):
    """Of a model that has learned something, which rounding spoils."""
    ids = torch.randint(5, 600, (8, 32), generator=torch.Generator().manual_seed(1))

    def loss(logits):
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    full = AutoModelForCausalLM.from_pretrained(model_dir)
    optimizer = torch.optim.AdamW(full.parameters(), lr=5e-3)
    for _ in range(30):
        loss(full(input_ids=ids, use_cache=False).logits).backward()
        optimizer.step()
        optimizer.zero_grad()
    full.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    loftq = load(tmp_path, **FOUR | {"lora_r": 16, "lora_alpha": 16}).model
    with torch.no_grad():
        for name, _ in lora_layers(loftq):
            layer = plain.get_submodule(name.removeprefix("base_model.model."))
            layer.weight.copy_(through_four_bits(layer.weight, "nf4", double=False))
    wanted, rough, better = (logits(model, ids) for model in (full, plain, loftq))
    assert loss(wanted) < 4.0
    assert abs(loss(better) - loss(wanted)) < 0.8 * abs(loss(rough) - loss(wanted))
    assert (better - wanted).norm() < 0.8 * (rough - wanted).norm()


@pytest.mark.parametrize("keys", [FOUR, EIGHT])
def test_saved_loaded_and_merged_it_computes_the_same(model_dir, tmp_path, keys):
    loaded = load(model_dir, **keys)
    stir(loaded.model)
    cfg = make_config(base_model=str(model_dir), **keys, merge_method="legacy")
    save_final(loaded.model, loaded.tokenizer, tmp_path / "out", cfg)
    expected = logits(loaded.model)
    again = load_lora(AutoModelForCausalLM.from_pretrained(model_dir), tmp_path / "out", trainable=False)
    assert torch.allclose(logits(again), expected, atol=1e-6)
    assert not torch.allclose(logits(again.unload()), logits(AutoModelForCausalLM.from_pretrained(model_dir)))
    report = merge_lora(cfg, tmp_path / "out", tmp_path / "merged", method="legacy")
    assert report.merged == 14
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits(merged), expected, atol=3e-6)


def test_plain_peft_computes_the_same_on_a_base_in_4_bits(model_dir, tmp_path):
    """peft rounds the base itself, but on a GPU only; bitsandbytes does the same here."""
    pytest.importorskip("bitsandbytes")
    loaded = load(model_dir, **FOUR)
    stir(loaded.model)
    save_final(loaded.model, loaded.tokenizer, tmp_path, make_config(base_model=str(model_dir), **FOUR))
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    assert config["init_lora_weights"] == "loftq"
    assert config["loftq_config"] == {"loftq_bits": 4, "loftq_iter": 1}
    path.write_text(json.dumps({**config, "init_lora_weights": True, "loftq_config": {}}))
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(model_dir, quantization_config=four)
    for module in base.modules():  # or an evaluation on a CPU would repack the weights
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    again = PeftModel.from_pretrained(base, str(tmp_path))
    assert torch.allclose(logits(again), logits(loaded.model), atol=1e-5)


def test_an_adapter_is_trained_on_from_the_rounded_base(model_dir, tmp_path):
    loaded = load(model_dir, **FOUR)
    stir(loaded.model)
    save_final(loaded.model, loaded.tokenizer, tmp_path / "one", make_config(base_model=str(model_dir), **FOUR))
    again = load(model_dir, **LORA, lora_model_dir=str(tmp_path / "one"))
    assert torch.allclose(logits(again.model), logits(loaded.model), atol=1e-6)
    save_final(again.model, again.tokenizer, tmp_path / "two", make_config(base_model=str(model_dir), **LORA))
    assert json.loads((tmp_path / "two" / "adapter_config.json").read_text())["init_lora_weights"] == "loftq"


def test_a_weight_that_is_shared_is_not_rounded(model_dir):
    keys = {**FOUR, "lora_target_linear": None, "lora_target_modules": ["lm_head"]}
    with pytest.raises(
        NewtError, match=r"loftq rounds linear layers with a weight of their own, and .*lm_head is none"
    ):
        load(model_dir, **keys)


def test_bits_that_cannot_be_had():
    assert bits_of({"init_lora_weights": "pissa"}) is None
    with pytest.raises(NewtError, match="in 2 bits: only 4 and 8"):
        bits_of({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 2}})
