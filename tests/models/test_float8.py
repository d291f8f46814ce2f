"""8-bit products, emulated."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from newt.models.float8 import to_float8

pytest.importorskip("torchao", reason="torchao is not installed")


def test_linear_layers_are_converted_but_not_the_head() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=96, hidden_size=32, intermediate_size=40, num_hidden_layers=1, num_attention_heads=2
    )
    model = AutoModelForCausalLM.from_config(config).train()
    ids = torch.arange(3, 35).reshape(2, 16)
    exact = model(input_ids=ids).logits
    names = list(model.state_dict())
    # 40 is no multiple of 16: the three layers of the MLP stay.
    assert to_float8(model, "tensorwise", emulate=True) == 4
    assert list(model.state_dict()) == names
    assert type(model.lm_head) is torch.nn.Linear
    assert type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    rounded = model(input_ids=ids).logits
    assert 0 < (rounded - exact).norm() < 0.1 * exact.norm()
    rounded.square().mean().backward()
    assert model.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
