"""One operation computes what base layer, adapter, scale and sum compute, with the same gradients."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear
from tests.helpers import make_run
from tests.models.tiny import IDS, LORA, load, stir
from torch import nn

from newt.extend import Facts
from newt.models.lora_linear import FusedLinear, fuse_lora


class Two(nn.Module):
    """A layer with a bias and one without."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 20), nn.Linear(20, 6, bias=False)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Scaled(nn.Module):
    """Multiplies what a model gives, as a new tensor or in place (as Gemma 3n does)."""

    def __init__(self, inner, in_place):
        super().__init__()
        self.inner, self.in_place = inner, in_place

    def forward(self, x):
        out = self.inner(x)
        return out.mul_(0.5) if self.in_place else out * 0.5


def adapted(dtype=torch.float32, **options):
    torch.manual_seed(3)
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["first", "second"], "init_lora_weights": False, **options}
    return get_peft_model(Two().to(dtype), LoraConfig(**options))


def step(model, x, autocast=False):
    """Output and the gradients of the input and of all that is trained; dropout is drawn from one seed."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    torch.manual_seed(11)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = model(x)
    (out.float() ** 2).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in model.parameters() if p.requires_grad)]


X = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("options", [{}, {"lora_dropout": 0.3}, {"use_rslora": True}, {"rank_pattern": {"first": 2}}])
def test_values_and_all_gradients_are_those_of_the_layers(options):
    model = adapted(**options)
    before = step(model, X)
    assert fuse_lora(model) == 2
    after = step(model, X)
    assert len(after) == 2 + 4
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_model_may_change_what_the_layer_gives_it_in_place():
    model = adapted()
    assert fuse_lora(model) == 2
    plain, in_place = step(Scaled(model, in_place=False), X), step(Scaled(model, in_place=True), X)
    for one, other in zip(plain, in_place, strict=True):
        assert torch.equal(one, other)


def test_under_autocast_it_is_no_further_from_the_truth_than_the_layers():
    model, exact = adapted(torch.bfloat16), adapted(torch.bfloat16)
    truth = step(exact.double(), X.double())
    for parameter, of in zip(model.parameters(), exact.parameters(), strict=True):
        parameter.data = of.data.float() if parameter.requires_grad else of.data.bfloat16()
    layers = step(model, X, autocast=True)
    fuse_lora(model)
    fused = step(model, X, autocast=True)
    assert [tensor.dtype for tensor in fused] == [tensor.dtype for tensor in layers]

    def error(found):
        return sum(float((one.double() - right).norm() / right.norm()) for one, right in zip(found, truth, strict=True))

    assert error(fused) < 1.1 * error(layers)


def test_outside_autocast_an_adapter_in_float32_computes_in_float32():
    model = adapted(torch.bfloat16)
    for parameter in model.parameters():
        parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data
    right = model(X.bfloat16())
    fuse_lora(model)
    assert torch.equal(model(X.bfloat16()), right)


def test_a_first_layer_whose_input_needs_no_gradient():
    model = adapted()
    fuse_lora(model)
    model(X).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_nothing_is_computed_differently_where_peft_does_more():
    model = adapted()
    plain = model.get_base_model()
    fuse_lora(model)
    with model.disable_adapter():
        off = model(X)
    assert not torch.allclose(off, model(X))
    with_adapter = model(X)
    model.merge_adapter()
    torch.testing.assert_close(model(X), with_adapter, rtol=1e-4, atol=1e-5)
    model.unmerge_adapter()
    plain.first.base_layer.weight.requires_grad_(True)
    model(X).sum().backward()
    assert plain.first.base_layer.weight.grad is not None


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}])
def test_other_kinds_stay_as_they_are(options):
    assert fuse_lora(adapted(**options)) == 0


def test_non_contiguous_input():
    model = adapted()
    x = X.transpose(0, 1)
    right = model(x)
    fuse_lora(model)
    torch.testing.assert_close(model(x), right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(model_dir, reentrant):
    model = load(model_dir, **LORA).model
    stir(model)

    def grads():
        model.zero_grad()
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]

    before = grads()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    after = grads()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def kinds(model):
    return {type(module) for module in model.modules() if isinstance(module, Linear)}


def test_weights_that_are_sharded_are_left_to_their_own_layers(model_dir):
    plain, sharded = ({**LORA, "base_model": str(model_dir)}, {"deepspeed": {"zero_optimization": {"stage": 3}}})
    assert len(make_run(Facts(), **plain).load_plan().prepare) == 1
    assert not make_run(Facts(), **plain, **sharded).load_plan().prepare


def test_a_run_fuses_plain_layers(model_dir):
    assert kinds(load(model_dir, **LORA).model) == {FusedLinear}
    assert kinds(load(model_dir, **LORA, peft_use_dora=True).model) == {Linear}


def test_it_compiles_in_one_piece():
    model = adapted()
    fuse_lora(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), model(X))
