"""Quantization configs, bases that are quantized already, and merging what was trained on 4 bits."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tests.helpers import make_config, make_run
from tests.models.tiny import LORA, load, logits, stir
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, FineGrainedFP8Config, Mxfp4Config

from newt.models import load as loading
from newt.models.generate import load_for_inference
from newt.models.merge import merge_lora
from newt.models.quantize import RECORD, Held, bitsandbytes_config, held_by, named_config, read_record
from newt.models.save import save_final
from newt.models.tokenizer import load_tokenizer
from newt.support.errors import NewtError

pytest.importorskip("bitsandbytes")

QLORA = {**LORA, "adapter": "qlora", "load_in_4bit": True}
KINDS = {
    "default": {},
    "fp4": {"bnb_config_kwargs": {"bnb_4bit_quant_type": "fp4"}},
    "no double quantization": {"bnb_config_kwargs": {"bnb_4bit_use_double_quant": False}},
    "skips": {"bnb_config_kwargs": {"llm_int8_skip_modules": ["down_proj"]}},
    "dora": {"peft_use_dora": True},
    "stored as uint8": {"bnb_config_kwargs": {"bnb_4bit_quant_storage": "uint8"}},
}


def trained(base, folder, **keys):
    found = load(base, **keys)
    stir(found.model)
    cfg = make_config(base_model=str(base), **keys)
    save_final(found.model, found.tokenizer, folder, cfg)
    return cfg, found.model


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_is_what_was_trained(model_dir, tmp_path, kind):
    method = "legacy" if kind == "skips" else "memory_efficient"
    cfg, model = trained(model_dir, tmp_path / "adapter", **QLORA, float32=True, **KINDS[kind])
    expected = logits(model)
    report = merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", method=method)
    assert torch.allclose(logits(plain(tmp_path / "merged")), expected, atol=2e-5)
    assert report.max_difference <= report.tolerance < report.adapter_effect
    assert any("held in 4 bits" in note for note in report.notes)


def test_without_the_quantized_base_the_merged_model_is_another(model_dir, tmp_path):
    _, model = trained(model_dir, tmp_path / "adapter", **QLORA, float32=True)
    cfg = make_config(base_model=str(model_dir), **LORA)
    report = merge_lora(cfg, bare(tmp_path), tmp_path / "merged", verify=False)
    assert not any("4 bits" in note for note in report.notes)
    assert not torch.allclose(logits(plain(tmp_path / "merged")), logits(model), atol=1e-3)


def bare(tmp_path):
    """The adapter's folder as other tools write it: without the record."""
    (tmp_path / "adapter" / RECORD).unlink()
    return tmp_path / "adapter"


def test_an_adapter_without_a_record_is_merged_as_the_config_says(model_dir, tmp_path):
    cfg, _ = trained(model_dir, tmp_path / "adapter", **QLORA, float32=True)
    record = json.loads((tmp_path / "adapter" / RECORD).read_text())
    assert record == {"kind": "nf4", "double": True, "dtype": "float32", "on_cpu": True, "skip": [], "experts": False}
    found = read_record(bare(tmp_path), cfg)
    assert found == Held("nf4", True, "float32")
    assert read_record(tmp_path / "adapter", make_config(**LORA)) is None
    (tmp_path / "adapter" / RECORD).write_text("{")
    with pytest.raises(NewtError, match="is damaged"):
        read_record(tmp_path / "adapter", cfg)


def test_weights_that_were_not_quantized_are_untouched(model_dir, tmp_path):
    cfg, _ = trained(model_dir, tmp_path / "adapter", **QLORA, float32=True, **KINDS["skips"])
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", verify=False)
    old, new = (load_file(folder / "model.safetensors") for folder in (model_dir, tmp_path / "merged"))
    assert {name for name in old if torch.equal(old[name], new[name])} == {n for n in old if "proj" not in n}
    only_q = {**QLORA, "lora_target_linear": False, "lora_target_modules": ["q_proj"], "float32": True}
    cfg, _ = trained(model_dir, tmp_path / "second", **only_q)
    merge_lora(cfg, tmp_path / "second", tmp_path / "both", verify=False)
    new = load_file(tmp_path / "both" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(new[name], Held(dtype="float32", on_cpu=True).through(old[name]))


def test_a_saved_adapter_is_the_same_in_plain_peft(model_dir, tmp_path):
    from peft import PeftModel

    _, model = trained(model_dir, tmp_path / "adapter", **QLORA, float32=True)
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    base = AutoModelForCausalLM.from_pretrained(model_dir, quantization_config=config, dtype=torch.float32)
    loading.settle(base)
    assert torch.equal(logits(PeftModel.from_pretrained(base, str(tmp_path / "adapter"))), logits(model))


def test_inference_loads_what_was_trained(model_dir, tmp_path):
    cfg, model = trained(model_dir, tmp_path / "adapter", **QLORA, float32=True)
    run = make_run(base_model=str(model_dir), **QLORA, float32=True)
    found = load_for_inference(run.load_plan(), load_tokenizer(cfg), tmp_path / "adapter")
    assert torch.equal(logits(found), logits(model))


def test_eight_bits(model_dir, tmp_path):
    keys = {**LORA, "load_in_8bit": True, "float32": True}
    cfg, model = trained(model_dir, tmp_path / "adapter", **keys)
    full = plain(model_dir)
    assert 0 < (logits(model) - logits(full)).abs().max() < 1
    assert not (tmp_path / "adapter" / RECORD).exists()
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert (logits(plain(tmp_path / "merged")) - logits(model)).abs().max() < 0.05


def test_a_base_that_is_stored_in_4_bits_is_used_as_it_is(model_dir, tmp_path):
    base = tmp_path / "stored"
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_compute_dtype="float32")
    stored = AutoModelForCausalLM.from_pretrained(model_dir, quantization_config=config, dtype=torch.float32)
    stored.save_pretrained(base)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(base)
    expected = logits(loaded_plain(base))
    from newt.models.facts import gather

    run = make_run(gather(make_config(base_model=str(base))), base_model=str(base), **QLORA, float32=True)
    found = loading.load_model(run.load_plan(), load_tokenizer(run.cfg))
    assert held_by(found.model.get_base_model()).kind == "fp4"
    assert torch.equal(logits(found.model), expected)
    save_final(found.model, found.tokenizer, tmp_path / "adapter", run.cfg)
    with pytest.raises(NewtError, match=r"the weights in .* are quantized \(bitsandbytes\): name the checkpoint"):
        merge_lora(run.cfg, tmp_path / "adapter", tmp_path / "merged")


def loaded_plain(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    loading.settle(model)
    return model


@pytest.mark.parametrize(
    ("name", "kwargs", "kind"),
    [
        ("Mxfp4Config", {"dequantize": True}, Mxfp4Config),
        ("FineGrainedFP8Config", {"dequantize": True, "weight_block_size": [64, 64]}, FineGrainedFP8Config),
    ],
)
def test_a_named_class_reaches_the_loader_with_its_arguments(model_dir, monkeypatch, name, kwargs, kind):
    seen = {}

    class Loader:
        @staticmethod
        def from_pretrained(source, **given):
            seen.update(given)
            raise OSError("stop here")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", Loader.from_pretrained)
    keys = {"model_quantization_config": name, "model_quantization_config_kwargs": kwargs}
    with pytest.raises(NewtError, match="stop here"):
        load(model_dir, **keys)
    assert type(seen["quantization_config"]) is kind
    assert seen["quantization_config"].dequantize is True
    assert all(getattr(seen["quantization_config"], key) == value for key, value in kwargs.items())


def test_errors_name_the_key_and_the_extra(monkeypatch):
    with pytest.raises(NewtError, match=r"bnb_config_kwargs: .*quant_type"):
        bitsandbytes_config({"load_in_4bit": True, "bnb_4bit_quant_type": 4})
    with pytest.raises(NewtError, match="model_quantization_config_kwargs: Activation scheme odd"):
        named_config("FineGrainedFP8Config", {"activation_scheme": "odd"})
    monkeypatch.setattr("newt.support.optional.find_spec", lambda _: None)
    with pytest.raises(
        NewtError, match=r"load_in_4bit needs the package 'bitsandbytes': pip install 'newt-tune\[bnb\]"
    ):
        bitsandbytes_config({"load_in_4bit": True})
