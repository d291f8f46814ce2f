"""Parameter groups: the exact rate and decay of every parameter."""

import pytest
from tests.helpers import make_run
from tests.training.tiny import load

from newt.features.lr_groups import LrGroups
from newt.support.errors import NewtError
from newt.training.groups import decaying, plain_groups

BASE = {"learning_rate": 1e-3, "weight_decay": 0.1}


def of_each(groups, model):
    """Parameter name -> (group, rate, decay)."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(p)], (g["name"], g["lr"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


def groups_of(model, **keys):
    run = make_run(**BASE, **keys)
    part = next(part for part in run.parts if isinstance(part, LrGroups))
    assert run.train_plan().groups.by == part.name
    return of_each(part.groups(model, decaying(model)), model)


@pytest.fixture(scope="module")
def model(model_dir):
    return load(model_dir).model


def kind(name: str) -> str:
    if "embed_tokens" in name or "lm_head" in name:
        return "embedding"
    return "norm" if "norm" in name else "matrix"


def test_one_rate_for_all(model):
    for name, group in of_each(plain_groups(model, 1e-3, 0.1), model).items():
        assert group == (("all without decay", 1e-3, 0.0) if kind(name) == "norm" else ("all", 1e-3, 0.1))


@pytest.mark.parametrize(("keys", "rate"), [({"embedding_lr": 1e-5}, 1e-5), ({"embedding_lr_scale": 0.5}, 5e-4)])
def test_embeddings(model, keys, rate):
    expected = {
        "embedding": ("embeddings", rate, 0.0),
        "norm": ("rest without decay", 1e-3, 0.0),
        "matrix": ("rest", 1e-3, 0.1),
    }
    found = groups_of(model, **keys)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, group in found.items():
        assert group == expected[kind(name)], name


def test_the_first_entry_that_matches_wins_with_and_without_decay(model):
    entries = [
        {"name": "first", "modules": ["layers.0"], "lr": "2e-3"},
        {"name": "queries", "modules": ["q_proj", "k_proj"], "lr": 3e-3},
    ]
    for name, group in groups_of(model, lr_groups=entries).items():
        decay = 0.0 if kind(name) == "norm" else 0.1
        without = " without decay" if kind(name) == "norm" else ""
        if "layers.0" in name:
            assert group == (f"first{without}", 2e-3, decay)
        elif "q_proj" in name or "k_proj" in name:
            assert group == ("queries", 3e-3, 0.1)
        elif kind(name) == "embedding":
            assert group == ("embeddings", 1e-3, 0.0)
        else:
            assert group == (f"rest{without}", 1e-3, decay)


def test_an_entry_that_matches_nothing_is_an_error(model):
    with pytest.raises(NewtError, match=r"no trained parameter matches 'qq_proj' of the group a\. Trained are: model"):
        groups_of(model, lr_groups=[{"name": "a", "modules": ["qq_proj"], "lr": 1}])


def test_modules_trained_beside_an_adapter_are_embeddings(model_dir):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    model = get_peft_model(load(model_dir).model, config)
    found = groups_of(model, embedding_lr=1e-5)
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, group in found.items():
        saved = name.endswith("modules_to_save.default.weight")
        assert group == (("embeddings", 1e-5, 0.0) if saved else ("rest", 1e-3, 0.1)), name


def test_the_schedule_keeps_the_peak_of_each_group(model):
    keys = {"embedding_lr": 1e-5, "lr_scheduler": "rex", "warmup_steps": 4, "optimizer": "adamw_torch"}
    plan = make_run(**BASE, **keys).train_plan()
    optimizer = plan.optimizer.get()(model)
    schedule = plan.schedule.get()(optimizer, 20)
    seen = {group["name"]: [] for group in optimizer.param_groups}
    for _ in range(20):
        for group in optimizer.param_groups:
            seen[group["name"]].append(group["lr"])
        optimizer.step()
        schedule.step()
    assert max(seen["embeddings"]) == 1e-5
    assert max(seen["rest"]) == 1e-3
    assert [100 * rate for rate in seen["embeddings"]] == pytest.approx(seen["rest"])
