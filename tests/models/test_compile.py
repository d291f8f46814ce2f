"""torch.compile, layer by layer."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from newt.losses.causal import causal_loss
from newt.models.compile import compile_layers


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_layers_are_compiled_and_compute_the_same(backend: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=96, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = AutoModelForCausalLM.from_config(config).train()
    ids = torch.arange(3, 35).reshape(2, 16)
    batch = {"input_ids": ids, "labels": ids}
    expected = causal_loss(model, batch, 30)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    names = list(model.state_dict())
    model.zero_grad()
    assert compile_layers(model, backend=backend) == 2
    found = causal_loss(model, batch, 30)
    found.backward()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], atol=1e-5, rtol=1e-4, msg=name)
    assert list(model.state_dict()) == names
