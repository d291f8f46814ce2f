import statistics

import pytest
import torch
from torch import nn

from newt.models.weight_scales import family_of, find_scales, normalize
from newt.support.errors import NewtError


class Layer(nn.Module):
    def __init__(self, size: float, dtype: torch.dtype) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(int(size * 100))
        self.conv = nn.Linear(32, 32, bias=False)
        self.conv.weight.data = (torch.randn(32, 32, generator=random) * size).to(dtype)
        self.up = nn.Linear(32, 32, bias=False)
        self.up.weight.data = (torch.randn(32, 32, generator=random) * 50).to(dtype)


class Model(nn.Module):
    def __init__(self, sizes=(0.1, 0.11, 0.09, 0.9), dtype=torch.float32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(size, dtype) for size in sizes)
        self.head = nn.Linear(32, 4, bias=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_that_drifted_gets_the_median_scale(dtype):
    model, before = Model(dtype=dtype), Model(dtype=dtype)
    expected = statistics.median(float(layer.conv.weight.detach().float().std()) for layer in before.layers)
    lines = normalize(model, r"conv\.weight$", 3.0)
    assert len(lines) == 2
    assert "matches 4 weights" in lines[0]
    assert "1 rescaled" in lines[0]
    assert "layers.3.conv.weight" in lines[1]
    weight = model.layers[3].conv.weight
    assert weight.dtype is dtype
    assert float(weight.detach().float().std()) == pytest.approx(expected, rel=2e-3)
    ratio = weight.float() / before.layers[3].conv.weight.float()
    spread = torch.finfo(dtype).eps
    assert float((ratio / ratio.median() - 1).abs().max()) <= 2 * spread + 1e-6, "all values by one factor"
    for number in range(3):
        assert torch.equal(model.layers[number].conv.weight, before.layers[number].conv.weight)
    assert torch.equal(model.layers[3].up.weight, before.layers[3].up.weight)


def test_dry_run_changes_nothing_and_says_what_it_would():
    model, before = Model(), Model()
    lines = normalize(model, "conv", 3.0, dry_run=True)
    assert "1 would be rescaled (dry_run)" in lines[0]
    assert "layers.3.conv.weight" in lines[1]
    assert torch.equal(model.layers[3].conv.weight, before.layers[3].conv.weight)


def test_siblings_count_although_the_pattern_names_one_layer():
    [scale] = find_scales(Model(), r"layers\.3\.conv")
    assert scale.ratio == pytest.approx(0.9 / 0.105, rel=0.1)


def test_nothing_is_done_below_the_threshold_and_for_a_weight_without_siblings():
    model = Model()
    assert len(normalize(model, "conv", 20.0)) == 1
    assert find_scales(model, "head")[0].ratio == 1.0


def test_small_weights_are_left_alone():
    assert len(normalize(Model((0.1, 0.1, 0.1, 0.001)), "conv", 1.5)) == 1


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(NewtError, match="normalize_weight_scales: 'nothing' matches no parameter of this model"):
        normalize(Model(), "nothing", 2.0)


def test_quantized_weights_are_an_error():
    model = Model()
    model.layers[1].conv.weight = nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(NewtError, match=r"layers\.1\.conv\.weight is quantized"):
        normalize(model, "conv", 2.0)


def test_the_number_of_the_layer_is_the_first_one():
    assert family_of("model.layers.12.mlp.experts.3.up.weight") == "model.layers.mlp.experts.3.up.weight"
    assert family_of("lm_head.weight") == "lm_head.weight"
