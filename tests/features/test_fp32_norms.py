"""Norms in float32."""

import pytest
from tests.helpers import complaints, make_run, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"fp32_norms": True, "float32": True}, "fp32_norms: has no effect: everything is in float32"),
        ({"fp32_norms": True, "fsdp_version": 1, "fsdp_config": {"offload_params": False}}, "fp32_norms: needs FSDP 2"),
        ({"fp32_norm_classes": ["RMSNorm"]}, "has no effect: fp32_norms is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {
            "fp32_norms": True,
            "fp32_norm_classes": ["RMSNorm"],
            "fsdp_version": 2,
            "fsdp_config": {"offload_params": False},
        },
        {"fp32_norms": False},
        {"fp32_norms": True},
        {"fp32_norms": True, "bfloat16": True, "fp32_norm_classes": ["LayerNorm"]},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_the_norms_of_the_model_are_changed():
    torch = pytest.importorskip("torch")
    assert unsupported(fp32_norms=True, fp32_norm_classes=["LayerNorm"]) == set()
    model = torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(2), "other": torch.nn.RMSNorm(2)}).bfloat16()
    make_run(fp32_norms=True, fp32_norm_classes=["LayerNorm"]).load_plan().prepare[-1](model)
    assert [p.dtype for p in model.parameters()] == [torch.float32, torch.float32, torch.bfloat16]
