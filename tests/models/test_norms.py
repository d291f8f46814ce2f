"""Norms in float32."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model
from torch import nn

from newt.models.norms import norms_in_float32
from newt.support.errors import NewtError

IDS = torch.arange(3, 35).reshape(2, 16)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "gpt_neox", "qwen3_next"])
def test_norms_alone_are_in_float32_and_the_model_still_runs(kind: str) -> None:
    model = tiny_model(kind).to(torch.bfloat16).train()
    count = norms_in_float32(model)
    assert count >= 2 * model.config.num_hidden_layers
    for name, part in model.named_modules():
        for parameter in part.parameters(recurse=False):
            assert (parameter.dtype == torch.float32) == type(part).__name__.endswith("Norm"), name
    logits = model(input_ids=IDS, use_cache=False).logits
    assert logits.dtype == torch.bfloat16
    logits.float().square().mean().backward()
    assert all(p.grad.dtype == p.dtype for p in model.parameters() if p.grad is not None)


def test_a_norm_is_computed_as_one_in_float32() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8).bfloat16()
            self.other = nn.Linear(8, 8).bfloat16()

    torch.manual_seed(0)
    model, hidden = Model(), torch.randn(4, 8).bfloat16()
    nn.init.normal_(model.norm.weight)
    expected = nn.functional.layer_norm(hidden.float(), (8,), model.norm.weight.float(), model.norm.bias.float())
    norms_in_float32(model, ["LayerNorm"])
    assert torch.equal(model.norm(hidden), expected.bfloat16())
    assert model.other.weight.dtype == torch.bfloat16
    # An update that bfloat16 would lose.
    before = model.norm.weight.detach().clone()
    with torch.no_grad():
        model.norm.weight.add_(1e-4)
    assert not torch.equal(model.norm.weight, before)


def test_classes_that_are_not_there() -> None:
    with pytest.raises(NewtError, match=r"fp32_norm_classes: the model has no RMSNorm; it has: .*LlamaRMSNorm"):
        norms_in_float32(tiny_model("llama"), ["RMSNorm"])
    with pytest.raises(NewtError, match="no class that ends in Norm"):
        norms_in_float32(nn.Sequential(nn.Linear(2, 2)))
