"""Checkpoints whose weights are stored in few bits: accepted for an adapter, or refused with the reason."""

import pytest
import torch
from tests.models.tiny import LORA, load, stir
from transformers import AutoModelForCausalLM, AutoTokenizer, TorchAoConfig

from newt.models.stored import refusal


def torchao(kind):
    return {"quant_method": "torchao", "quant_type": {"default": {"_type": kind, "_version": 2, "_data": {}}}}


@pytest.mark.parametrize(
    ("stored", "packages", "expected"),
    [
        ({"quant_method": "awq"}, ["gptqmodel"], None),
        ({"quant_method": "awq"}, [], ("reading them needs the package gptqmodel.", "pip install gptqmodel")),
        (torchao("Int8WeightOnlyConfig"), ["torchao"], None),
        (torchao("Int8WeightOnlyConfig"), [], ("needs the package torchao.", "pip install 'newt-tune[torchao]'")),
        (torchao("Int8DynamicActivationInt8WeightConfig"), ["torchao"], ("cannot be trained on.", "Take the")),
        (torchao("IntxWeightOnlyConfig"), ["torchao"], ("IntxWeightOnlyConfig of torchao", "Take the")),
        (torchao("Float8WeightOnlyConfig"), ["torchao"], ("computes in bfloat16.", "Set bf16: true.")),
        ({"quant_method": "hqq"}, ["hqq"], ("transformers 5 cannot read.", "Take the")),
        ({"quant_method": "vptq"}, [], ("quantized by vptq.", "Take the")),
        ({}, [], ("unknown method", "Take the")),
    ],
)
def test_refusals(stored, packages, expected):
    found = refusal(stored, dict.fromkeys(packages, "1"), False)
    assert (found is None) == (expected is None)
    assert expected is None or (expected[0] in found[0] and found[1].startswith(expected[1]))


def test_float8_of_torchao_in_bfloat16():
    assert refusal(torchao("Float8WeightOnlyConfig"), {"torchao": "0.18"}, True) is None


@pytest.mark.parametrize("kind", ["Int8WeightOnlyConfig", "Float8WeightOnlyConfig"])
def test_what_is_accepted_of_torchao_passes_a_gradient(model_dir, tmp_path, kind):
    quantization = pytest.importorskip("torchao.quantization")
    made = TorchAoConfig(getattr(quantization, kind)())
    AutoModelForCausalLM.from_pretrained(model_dir, quantization_config=made, dtype=torch.bfloat16).save_pretrained(
        tmp_path
    )
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    model = load(tmp_path, **LORA, bfloat16=True).model
    stir(model)
    ids = torch.arange(3, 67).reshape(2, 32)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert gradients
    assert all(grad is not None and grad.abs().sum() > 0 for grad in gradients)
