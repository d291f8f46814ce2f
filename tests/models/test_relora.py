"""A restart changes nothing that the model computes, and begins the adapter anew."""

import json

import pytest
import torch
from tests.models.tiny import IDS, LORA, load, logits, stir

from newt.models import relora
from newt.support.errors import NewtError


@pytest.mark.parametrize("on_cpu", [False, True])
@pytest.mark.parametrize(
    "keys", [{}, {"peft_use_dora": True}, {"peft_use_rslora": True, "lora_modules_to_save": ["norm"]}]
)
def test_a_restart_keeps_the_model_and_empties_the_adapter(model_dir, keys, on_cpu):
    model = load(model_dir, **LORA, **keys).model
    stir(model)
    before = logits(model)
    relora.restart(model, on_cpu=on_cpu)
    assert torch.allclose(logits(model), before, atol=1e-5)
    assert all(not p.any() for name, p in model.named_parameters() if "lora_B" in name)
    assert all(p.any() for name, p in model.named_parameters() if "lora_A" in name)
    with model.disable_adapter():
        merged = model(input_ids=IDS).logits
    if "lora_modules_to_save" not in keys:
        assert torch.allclose(merged, before, atol=1e-5)


def test_the_base_comes_back_bit_for_bit(model_dir, tmp_path):
    model = load(model_dir, **LORA, lora_modules_to_save=["norm"]).model
    stir(model)
    relora.restart(model)
    relora.save_base(model, tmp_path / "relora")
    expected = logits(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "base_layer" in name or "embed" in name:
                parameter.zero_()
    relora.load_base(model, tmp_path / "relora")
    assert torch.equal(logits(model), expected)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(NewtError, match="the folder none is missing"):
        relora.load_base(model, tmp_path / "none")


def test_an_adapter_says_which_base_it_fits(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "base_model_name_or_path": "a"}))
    relora.name_base(tmp_path, tmp_path / "relora")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config == {"r": 4, "base_model_name_or_path": str(tmp_path / "relora")}


class Pair(torch.nn.Module):
    """One parameter of an adapter and one of the base."""

    def __init__(self):
        super().__init__()
        self.lora_A = torch.nn.Parameter(torch.zeros(10, 10))
        self.base = torch.nn.Parameter(torch.zeros(4))


def stepped():
    model = Pair()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    random = torch.Generator().manual_seed(0)
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=random)
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize(("ratio", "kept"), [(None, 10), (0.5, 50), (0.0, 100), (1.0, 0)])
def test_the_largest_moments_stay(ratio, kept):
    model, optimizer = stepped()
    before = {name: optimizer.state[model.lora_A][name].clone() for name in ("exp_avg", "exp_avg_sq")}
    base = optimizer.state[model.base]["exp_avg"].clone()
    relora.prune(optimizer, model, "magnitude", ratio)
    state = optimizer.state[model.lora_A]
    stays = before["exp_avg_sq"].flatten().argsort(descending=True)[:kept]
    assert set(state["exp_avg_sq"].flatten().nonzero().flatten().tolist()) == set(stays.tolist())
    assert torch.equal(state["exp_avg_sq"].flatten()[stays], before["exp_avg_sq"].flatten()[stays])
    first = before["exp_avg"].abs().flatten().argsort(descending=True)[:kept]
    assert set(state["exp_avg"].flatten().nonzero().flatten().tolist()) == set(stays.tolist()) & set(first.tolist())
    assert torch.equal(optimizer.state[model.base]["exp_avg"], base)


@pytest.mark.parametrize(
    ("method", "ratio", "share"), [("random", None, 0.9), ("random", 0.3, 0.3), ("reset", None, 0.999)]
)
def test_random_moments_go_together(method, ratio, share):
    model, optimizer = stepped()
    torch.manual_seed(0)
    state = optimizer.state[model.lora_A]
    relora.prune(optimizer, model, method, ratio)
    gone = (state["exp_avg_sq"] == 0).float().mean().item()
    assert gone == pytest.approx(share, abs=0.12)
    assert torch.equal(state["exp_avg"] == 0, state["exp_avg_sq"] == 0)


class Wide(torch.nn.Module):
    """A parameter that is large enough for 8 bits, with a last block that is not full."""

    def __init__(self):
        super().__init__()
        self.lora_A = torch.nn.Parameter(torch.zeros(65, 67))


def eight_bits(kind, parameters):
    if kind == "bitsandbytes":
        return pytest.importorskip("bitsandbytes").optim.AdamW8bit(parameters, lr=0.1)
    return pytest.importorskip("torchao.optim").AdamW8bit(parameters, lr=0.1)


def moments(kind, state):
    """Both moments as the library itself gives them back."""
    if kind == "torchao":
        return state["exp_avg"].dequantize(), state["exp_avg_sq"].dequantize()
    from bitsandbytes.functional import dequantize_blockwise

    return tuple(
        dequantize_blockwise(state[f"state{i}"], absmax=state[f"absmax{i}"], code=state[f"qmap{i}"], blocksize=256)
        for i in "12"
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", ["magnitude", "random"])
@pytest.mark.parametrize("kind", ["bitsandbytes", "torchao"])
def test_moments_in_8_bits_are_pruned_and_the_others_stay_bit_for_bit(kind, method):
    torch.manual_seed(0)
    model = Wide() if kind == "bitsandbytes" else Pair()
    if kind == "torchao":  # it wants whole blocks
        model.lora_A = torch.nn.Parameter(torch.zeros(64, 128))
    optimizer = eight_bits(kind, [model.lora_A])
    for _ in range(3):
        model.lora_A.grad = torch.randn(model.lora_A.shape)
        optimizer.step()
    state = optimizer.state[model.lora_A]
    before = [moment.clone() for moment in moments(kind, state)]
    relora.prune(optimizer, model, method)
    for old, new, share in zip(before, moments(kind, state), (0.0, 0.1), strict=True):
        stays = new != 0
        assert torch.equal(new[stays], old[stays])
        assert share - 0.02 < stays.float().mean() < 0.12
    first, second = moments(kind, state)
    assert not (first.ne(0) & second.eq(0)).any(), "a first moment without its second makes a step of any size"
    if method == "magnitude":
        assert before[1][second == 0].max() <= before[1][second != 0].min()
    weights = model.lora_A.detach().clone()
    model.lora_A.grad = torch.randn(model.lora_A.shape)
    optimizer.step()
    assert model.lora_A.isfinite().all()
    assert not torch.equal(model.lora_A, weights)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_moments_that_have_no_zero_are_refused():
    model = Pair()
    model.lora_A = torch.nn.Parameter(torch.zeros(64, 128))
    optimizer = pytest.importorskip("torchao.optim").AdamW4bit([model.lora_A], lr=0.1)
    model.lora_A.grad = torch.ones_like(model.lora_A)
    optimizer.step()
    with pytest.raises(NewtError, match="the moments of AdamW4bit have no zero"):
        relora.prune(optimizer, model, "magnitude")


def test_what_cannot_be_restarted_is_refused(model_dir):
    model = load(model_dir, **{**LORA, "lora_target_modules": ["embed_tokens"]}).model
    with pytest.raises(NewtError, match="the embedding and the output layer are one weight, and a restart"):
        relora.check_restartable(model)
    relora.check_restartable(load(model_dir, **LORA).model)
    with pytest.raises(NewtError, match="SGD has no moments that can be pruned"):
        relora.prune(torch.optim.SGD(Pair().parameters(), lr=1), Pair(), "magnitude")
