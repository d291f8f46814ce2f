"""Every optimizer by name: it moves the weights, and a resumed run ends with the same ones, bit for bit."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import make_run
from tests.training.tiny import Data, Rows, load, plans, same, trained
from torch import nn

from newt.features.optimizers import Optimizers
from newt.support.errors import NewtError
from newt.training.build import build_trainer
from newt.training.combined import Combined, load_exactly
from newt.training.fit import fit
from newt.training.optimizer_table import OPTIMIZERS, TYPES
from newt.training.optimizers import Wanted, make_optimizer

RUNNING = [name for name, entry in OPTIMIZERS.items() if not entry.needs_gpu and not entry.instead]
RESUMING = [name for name in RUNNING if not OPTIMIZERS[name].no_resume]
OF_EACH_KIND = (
    "adamw_torch_fused", "adamw_torch_8bit", "paged_adamw_8bit", "ademamix_8bit", "adafactor", "stable_adamw",
    "galore_adamw_8bit", "galore_adamw_layerwise", "apollo_adamw", "schedule_free_adamw", "came_pytorch", "muon",
    "dion", "adopt_adamw", "lomo",
)  # fmt: skip


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """torchao compiles its updates for half a minute, and that is not what is tested."""
    with torch.compiler.set_stance("force_eager"):
        yield


def need(name: str) -> None:
    """Skip where the optimizer's package is not installed."""
    module = OPTIMIZERS[name].make.partition(":")[0]
    try:
        import_module(module)
    except ImportError as error:
        pytest.skip(f"{name}: {error}")


def keys_of(name: str, **keys: Any) -> dict[str, Any]:
    entry = OPTIMIZERS[name]
    args: dict[str, Any] = {"rank": 4, "update_proj_gap": 2} if entry.target else {}
    if "min_8bit_size" in entry.args:
        args["min_8bit_size"] = 64  # the matrices here are small, and shall be held in 8 bits
    target = {"optim_target_modules": "all_linear"} if entry.target else {}
    return {"optimizer": name, "learning_rate": 1e-2, "weight_decay": 0.1, "optim_args": args, **target, **keys}


class Small(nn.Module):
    """An embedding, two layers and a norm."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed_tokens = nn.Embedding(16, 32)
        self.up = nn.Linear(32, 48)
        self.norm = nn.LayerNorm(48)
        self.down = nn.Linear(48, 32, bias=False)

    def forward(self, step: int) -> torch.Tensor:
        ids = torch.arange(8) * (step + 3) % 16
        return (self.down(self.norm(self.up(self.embed_tokens(ids)))) ** 2).mean()


def optimizer_of(model: nn.Module, **keys: Any) -> Any:
    run = make_run(**keys)
    make = run.train_plan().optimizer.get()
    assert make is not None
    return make(model)


def steps(model: Small, optimizer: Any, numbers: range) -> None:
    for step in numbers:
        if hasattr(optimizer, "fused_backward"):
            optimizer.fused_backward(model(step), 1e-2)
            continue
        model(step).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", RESUMING)
def test_a_stored_state_goes_on_bit_for_bit(name, bf16):
    need(name)
    if bf16 and name in ("adamw_torch_4bit", "adamw_torch_8bit", "ao_adamw_fp8", "lomo"):
        pytest.skip("covered in float32")
    keys = keys_of(name, gradient_accumulation_steps=1)

    def begin() -> tuple[Small, Any]:
        model = Small().bfloat16() if bf16 else Small()
        optimizer = optimizer_of(model, **keys)
        if hasattr(optimizer, "train"):
            optimizer.train()
        return model, optimizer

    model, optimizer = begin()
    first = {key: value.clone() for key, value in model.state_dict().items()}
    steps(model, optimizer, range(3))
    stored = io.BytesIO()
    torch.save(optimizer.state_dict(), stored)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    steps(model, optimizer, range(3, 9))
    assert not same(first, model.state_dict())

    other, again = begin()
    other.load_state_dict(weights)
    stored.seek(0)
    again.load_state_dict(torch.load(stored, weights_only=True))
    steps(other, again, range(3, 9))
    assert same(model.state_dict(), other.state_dict())


def trainer_of(model_dir: Path, out: Path, name: str, **keys: Any) -> tuple[Any, Any]:
    fused = OPTIMIZERS[name].kind in ("layerwise", "fused")
    wanted = keys_of(
        name,
        **{
            "base_model": str(model_dir), "output_dir": str(out), "micro_batch_size": 2, "sequence_len": 48,
            "gradient_accumulation_steps": 1 if fused else 2, "max_steps": 3, "save_steps": 2, "bf16": False,
            "warmup_steps": 0, "lr_scheduler": "constant", **keys,
        },
    )  # fmt: skip
    run = make_run(**wanted)
    plan = run.train_plan()
    _, data_plan = plans(run.cfg)
    plan.loss = plans(run.cfg)[0].loss
    trainer = build_trainer(plan, data_plan, load(model_dir), Data(Rows(24), Rows(6, 5)))
    return trainer, run.cfg


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_a_resumed_run_equals_a_straight_one(model_dir, tmp_path, name):
    need(name)
    whole, cfg = trainer_of(model_dir, tmp_path / "a", name)
    before = trained(whole)
    fit(whole, cfg)
    assert not same(before, trained(whole))
    resumed, cfg = trainer_of(
        model_dir, tmp_path / "b", name, resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2")
    )
    fit(resumed, cfg)
    assert same(trained(whole), trained(resumed))


@pytest.mark.parametrize("name", RUNNING)
def test_the_table_agrees_with_the_installed_class(name):
    need(name)
    entry = OPTIMIZERS[name]
    if entry.package == "torchdistx":
        pytest.skip("not installed")
    module, _, kind = entry.make.partition(":")
    taken = inspect.signature(getattr(import_module(module), kind).__init__).parameters
    assert set(entry.args) <= set(taken)
    assert set(entry.fixed) <= set(taken)
    if entry.kind not in ("matrices", "fused"):
        assert ("betas" in taken) >= bool(entry.betas)
        assert ("eps" in taken) >= bool(entry.eps)
    for argument in entry.args:
        default = taken[argument].default
        if isinstance(default, bool | int | float | str) and argument not in ("alpha", "r", "eps"):
            assert issubclass(TYPES.get(argument, float), type(default)) or isinstance(default, int), argument


def test_all_names_of_the_trainer_are_there():
    from transformers.training_args import OptimizerNames

    elsewhere = {"adamw_torch_xla", "adamw_torch_npu_fused"}
    assert {item.value for item in OptimizerNames} - elsewhere <= set(OPTIMIZERS)


def grouped(optimizer: Any, model: nn.Module) -> dict[str, dict[str, Any]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def test_muon_gets_matrices_and_adamw_the_rest():
    model = Small()
    optimizer = optimizer_of(model, **keys_of("muon", optim_args={"momentum": "0.9"}, adam_beta2=0.95))
    groups = grouped(optimizer, model)
    matrices = {name for name, group in groups.items() if "momentum" in group}
    assert matrices == {"up.weight", "down.weight"}
    assert groups["up.weight"]["momentum"] == 0.9
    assert groups["up.weight"]["weight_decay"] == 0.1
    assert groups["embed_tokens.weight"]["betas"] == (0.9, 0.95)
    assert groups["norm.bias"]["weight_decay"] == 0.0
    assert set(groups) == {name for name, _ in model.named_parameters()}
    assert isinstance(optimizer, Combined)


def test_a_matrix_moves_as_torch_moves_it():
    model, other = Small(), Small()
    optimizer = optimizer_of(model, **keys_of("muon"))
    theirs = torch.optim.Muon([other.up.weight, other.down.weight], lr=1e-2, weight_decay=0.1,
                              adjust_lr_fn="match_rms_adamw")  # fmt: skip
    model(0).backward()
    other(0).backward()
    optimizer.step()
    theirs.step()
    assert torch.equal(model.up.weight, other.up.weight)
    assert torch.equal(model.down.weight, other.down.weight)


def test_dion_has_a_rate_of_its_own():
    model = Small()
    keys = keys_of("dion", dion_lr=0.02, dion_rank_fraction=0.5, dion_momentum=0.8, optim_args=None)
    groups = grouped(optimizer_of(model, **keys), model)
    assert (groups["up.weight"]["lr"], groups["embed_tokens.weight"]["lr"]) == (0.02, 1e-2)
    assert (groups["up.weight"]["rank_fraction"], groups["up.weight"]["momentum"]) == (0.5, 0.8)


@pytest.mark.parametrize("modules", [("up",), r".*\.?up", "all_linear", "all-linear"])
def test_only_the_named_modules_are_projected(modules):
    need("galore_adamw")
    model = Small()
    groups = grouped(optimizer_of(model, **keys_of("galore_adamw", optim_target_modules=modules)), model)
    expected = {"up.weight"} | ({"down.weight"} if modules in ("all_linear", "all-linear") else set())
    assert {name for name, group in groups.items() if "rank" in group} == expected
    assert groups["up.weight"]["rank"] == 4
    assert groups["up.weight"]["weight_decay"] == 0.1
    assert groups["up.bias"]["weight_decay"] == 0.0


def test_modules_that_are_not_there_are_named():
    need("galore_adamw")
    with pytest.raises(NewtError, match="no trained linear layer matches"):
        optimizer_of(Small(), **keys_of("galore_adamw", optim_target_modules=("q_proj",)))


def test_a_missing_package_is_one_line():
    entry = OPTIMIZERS["adamw_anyprecision"]
    with pytest.raises(NewtError, match=r"adamw_anyprecision cannot be loaded: .*torchdistx.*Install torchdistx"):
        make_optimizer(Small(), Wanted("adamw_anyprecision", entry, 1e-3, 0.0, folder="/nowhere"))


def test_anyprecision_is_taken_from_a_folder(tmp_path, monkeypatch):
    package = tmp_path / "torchdistx"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "optimizers.py").write_text(
        "from torch.optim import SGD\nclass AnyPrecisionAdamW(SGD):\n"
        "    def __init__(self, params, lr, weight_decay, betas, eps, momentum_dtype):\n"
        "        super().__init__(params, lr=lr)\n        self.given = betas, eps, momentum_dtype\n"
    )
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    optimizer = optimizer_of(
        Small(), optimizer="adamw_anyprecision", torchdistx_path=str(tmp_path), optim_args="momentum_dtype=bfloat16"
    )
    assert optimizer.given == ((0.9, 0.999), 1e-8, torch.bfloat16)


def test_embeddings_keep_moments_of_32_bits():
    need("adamw_8bit")
    model = Small()
    optimizer = optimizer_of(model, **keys_of("adamw_8bit"))
    steps(model, optimizer, range(1))
    assert optimizer.state[model.up.weight]["state1"].dtype == torch.uint8
    assert optimizer.state[model.embed_tokens.weight]["state1"].dtype == torch.float32


@pytest.mark.parametrize("keys", [{}, {"gradient_accumulation_steps": 1, "optimizer_in_bwd": True, "max_grad_norm": 0}])
def test_schedules_with_bounds_that_are_rates_know_the_peak(keys):
    """They ask the optimizer for it, also one that is made of several."""
    run = make_run(
        **keys_of("muon", **keys), lr_scheduler="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr": 1e-3}, max_steps=4
    )
    plan = run.train_plan()
    schedule = plan.schedule.get()(plan.optimizer.get()(Small()), 4)
    for _ in range(4):
        schedule.optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([1e-3] * len(schedule.get_last_lr()))


@pytest.mark.parametrize("name", ["adamw_8bit", "galore_adamw_8bit", "galore_adamw_8bit_layerwise"])
def test_wishes_for_other_weights_do_not_reach_these(name):
    """The package's own manager knows weights by their id, which a later weight can have after the first is gone."""
    need(name)
    from bitsandbytes.optim import GlobalOptimManager

    model, shared = Small(), GlobalOptimManager.get_instance()
    before = dict(shared.pid2config)
    shared.override_config(model.up.weight, key_value_dict={"optim_bits": 32})  # what an earlier weight had left
    shared.index2config[0, 0] = {"optim_bits": 32}
    try:
        optimizer = optimizer_of(model, **keys_of(name, gradient_accumulation_steps=1))
        other = optimizer_of(Small(), **keys_of(name, gradient_accumulation_steps=1))
        steps(model, optimizer, range(1))
        assert optimizer.state[model.up.weight]["state1"].dtype == torch.uint8
        assert optimizer.state[model.embed_tokens.weight]["state1"].dtype == torch.float32
    finally:
        shared.pid2config = before
        shared.index2config.clear()
    managers = [{id(part.mng) for part in getattr(one, "parts", [one])} for one in (optimizer, other)]
    assert len(managers[0] | managers[1]) == 2
    assert id(shared) not in managers[0] | managers[1]


def test_optimizers_of_torchao_do_not_ask_for_bitsandbytes(monkeypatch):
    need("adamw_torch_8bit")
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    assert not hasattr(optimizer_of(Small(), **keys_of("adamw_torch_8bit")), "mng")


def test_galore_in_8_bits_follows_galore():
    need("galore_adamw_8bit")
    eight, whole = Small(), Small()
    keys = {"optim_args": {"rank": 8, "update_proj_gap": 100}, "adam_epsilon": 1e-6}
    one = optimizer_of(eight, **keys_of("galore_adamw_8bit", **keys))
    other = optimizer_of(whole, **keys_of("galore_adamw", **keys))
    start = eight.up.weight.detach().clone()
    steps(eight, one, range(4))
    steps(whole, other, range(4))
    moved = (whole.up.weight - start).norm()
    assert (eight.up.weight - whole.up.weight).norm() < 0.05 * moved


def test_layerwise_follows_the_plain_one():
    need("galore_adamw")
    one, other = Small(), Small()
    steps(one, optimizer_of(one, **keys_of("galore_adamw_layerwise", gradient_accumulation_steps=1)), range(3))
    steps(other, optimizer_of(other, **keys_of("galore_adamw")), range(3))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in one.parameters())


def test_stored_moments_keep_their_type():
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    load_exactly(optimizer)
    stored = optimizer.state_dict()
    stored["state"] = {0: {"moment": torch.full((4,), 1.0001)}}
    optimizer.load_state_dict(stored)
    assert optimizer.state[weight]["moment"].dtype == torch.float32
    assert torch.equal(optimizer.state[weight]["moment"], torch.full((4,), 1.0001))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"optimizer": "came_pytorch"}, {"betas": (0.9, 0.999, 0.9999), "eps": (1e-30, 1e-16)}),
        (
            {"optimizer": "came_pytorch", "adam_beta3": 0.99, "adam_epsilon2": 1e-12},
            {"betas": (0.9, 0.999, 0.99), "eps": (1e-30, 1e-12)},
        ),
        ({"optimizer": "adamw_torch", "adam_beta1": 0.8}, {"betas": (0.8, 0.999), "eps": 1e-8}),
        ({"optimizer": "adopt_adamw"}, {"betas": (0.9, 0.9999), "eps": 1e-6}),
        ({"optimizer": "ademamix", "optim_args": {"beta3": "0.99", "eps": "1e-7"}},
         {"betas": (0.9, 0.999, 0.99), "eps": 1e-7}),
        ({"optimizer": "sgd"}, {}),
    ],
)  # fmt: skip
def test_betas_and_epsilons(keys, expected):
    run = make_run(**keys)
    part = next(part for part in run.parts if isinstance(part, Optimizers))
    assert part.numbers(OPTIMIZERS[keys["optimizer"]], keys.get("optim_args", {})) == expected
