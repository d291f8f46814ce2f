"""What each number type rounds to, against torchao and against values by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from newt.models import fake_quant as fq
from newt.support.errors import NewtError


def weights(rows: int = 24, features: int = 64) -> torch.Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(1))


class Tiny(nn.Module):
    def __init__(self, features: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(10, features)
        self.up = nn.Linear(features, 96)
        self.gate = nn.Linear(features, 4)
        self.down = nn.Linear(96, features, bias=False)
        self.head = nn.Linear(features, 10)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.down(self.up(self.embed(ids)).relu()))

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def get_input_embeddings(self) -> nn.Module:
        return self.embed


def torchao_linear(weight: torch.Tensor, config: object) -> nn.Linear:
    quantization = pytest.importorskip("torchao.quantization")
    layer = nn.Sequential(nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    layer[0].weight.data = weight.clone()
    quantization.quantize_(layer, config)
    return layer[0]


def test_int4_is_what_torchao_converts_to() -> None:
    quantization = pytest.importorskip("torchao.quantization")
    config = quantization.IntxWeightOnlyConfig(torch.int4, granularity=quantization.PerGroup(32))
    converted = torchao_linear(weights(), config).weight.dequantize()
    assert torch.allclose(converted, fq.int4(weights(), 32), atol=1e-6)


def test_int4_with_int8_inputs_is_what_torchao_converts_to() -> None:
    quantization = pytest.importorskip("torchao.quantization")
    granularity = quantization.PerGroup(32)
    config = quantization.Int8DynamicActivationIntxWeightConfig(torch.int4, weight_granularity=granularity)
    layer = torchao_linear(weights(), config)
    given = torch.randn(5, 64, generator=torch.Generator().manual_seed(2)) + 0.3
    model = nn.Linear(64, 24, bias=False)
    model.weight.data = weights()
    model.__class__ = fq.FakeQuantLinear
    model.weight_rounding, model.activation_rounding = (lambda value: fq.int4(value, 32)), fq.int8_tokens
    model.enabled = True
    with torch.no_grad():
        assert torch.allclose(layer(given), model(given), atol=1e-4)


def test_float8_is_what_torchao_converts_to() -> None:
    quantization = pytest.importorskip("torchao.quantization")
    config = quantization.Float8WeightOnlyConfig()
    assert torch.allclose(torchao_linear(weights(), config).weight.dequantize(), fq.float8_rows(weights()), atol=1e-6)


def test_nvfp4_and_mxfp4_are_what_torchao_has() -> None:
    nvfp4 = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
    scale = nvfp4.per_tensor_amax_to_scale(weights().abs().max())
    wanted = nvfp4.NVFP4Tensor.to_nvfp4(weights(), per_tensor_scale=scale).dequantize(torch.float32)
    assert torch.allclose(fq.nvfp4(weights()), wanted, atol=1e-6)
    mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
    wanted = mx.MXTensor.to_mx(weights(), torch.float4_e2m1fn_x2, 32).dequantize(torch.float32)
    assert torch.allclose(fq.mxfp4(weights()), wanted, atol=1e-6)


def test_four_bit_floats_round_to_the_nearest_and_from_the_middle_to_even() -> None:
    given = torch.tensor([0.24, 0.25, 0.26, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 5.1, 9.0, -0.75, -5.0])
    wanted = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0, 6.0, -1.0, -4.0])
    assert torch.equal(fq._e2m1(given), wanted)


def test_ternary_by_hand() -> None:
    value = torch.tensor([[1.0, -2.0, 0.2, 0.8]])  # the mean of the magnitudes is 1
    assert torch.equal(fq.ternary(value), torch.tensor([[1.0, -1.0, 0.0, 1.0]]))


@pytest.mark.parametrize("rounding", [fq.int8_tokens, fq.float8_rows, fq.nvfp4, fq.mxfp4, lambda v: fq.int4(v, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zeros_stay_zeros_and_the_type_stays(rounding, dtype: torch.dtype) -> None:
    zeros = torch.zeros(3, 32, dtype=dtype)
    assert torch.equal(rounding(zeros), zeros)
    assert rounding(zeros).dtype == dtype
    one = rounding(weights(4, 32).to(dtype)).float()
    assert (one - weights(4, 32)).norm() < 0.2 * one.norm()


def test_gradients_pass_and_weights_stay() -> None:
    model = Tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert fq.fake_quantize(model, fq.weight_rounding("int4", 32), fq.activation_rounding("int8"), group=32) == 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (type(model.head), type(model.gate)) == (nn.Linear, nn.Linear)
    ids = torch.arange(6)
    found = model(ids)
    found.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "gate" not in name)
    fq.switch(model, False)
    assert torch.equal(model(ids), Tiny()(ids))
    assert not torch.allclose(found, model(ids), atol=1e-4)


def test_embedding() -> None:
    model = Tiny()
    assert fq.fake_quantize(model, fq.weight_rounding("nvfp4", 16), group=16, embedding=True) == 2
    assert torch.equal(model.embed(torch.tensor([3])), fq.nvfp4(Tiny().embed.weight)[[3]])
    assert fq.switch(model, False) == 3


def test_groups_that_do_not_fit() -> None:
    with pytest.raises(NewtError, match=r"qat.group_size: 128 does not divide the 64 inputs of up"):
        fq.fake_quantize(Tiny(), fq.weight_rounding("int4", 128), group=128)
    with pytest.raises(NewtError, match="no linear layer"):
        fq.fake_quantize(Bare(), fq.ternary)


class Bare(nn.Module):
    def get_output_embeddings(self) -> None:
        return None


def test_converted_equals_fake_quantized() -> None:
    """Training with rounding, then quantizing the weights once for all, gives the same function."""
    quantization = pytest.importorskip("torchao.quantization")
    model = Tiny()
    fq.fake_quantize(model, fq.weight_rounding("int4", 32), group=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.arange(10)).logsumexp(-1).mean().backward()
        optimizer.step()
    plain = Tiny()
    plain.load_state_dict(model.state_dict())
    config = quantization.IntxWeightOnlyConfig(torch.int4, granularity=quantization.PerGroup(32))
    quantization.quantize_(plain, config, filter_fn=lambda layer, name: name in ("up", "down"))
    with torch.no_grad():
        assert torch.allclose(plain(torch.arange(10)), model(torch.arange(10)), atol=1e-5)


@pytest.mark.parametrize(("name", "rounding"), [("nvfp4", fq.nvfp4), ("mxfp4", fq.mxfp4)])
def test_inputs_of_a_layer_are_rounded_as_its_weight_is(name: str, rounding: fq.Rounding) -> None:
    model = nn.Sequential(nn.Linear(64, 8))
    model.get_output_embeddings = lambda: None  # type: ignore[assignment]
    fq.fake_quantize(model, fq.weight_rounding(name, 32), fq.activation_rounding(name), group=32)
    value = weights(4, 64)
    assert torch.equal(model(value), nn.functional.linear(rounding(value), rounding(model[0].weight), model[0].bias))
