"""Grokfast."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"grokfast_alpha": 0.9}, "needs GrokfastPlugin"),
        ({"plugins": ["GrokfastPlugin"], "optimizer": "lomo"}, "lomo never has them"),
        ({"plugins": ["GrokfastPlugin"], "deepspeed": "zero1.json"}, "cannot be used with deepspeed"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"plugins": ["GrokfastPlugin"], "grokfast_alpha": 0.98, "grokfast_lamb": 2.0},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def callback(**keys):
    plan = make_run(plugins=["GrokfastPlugin"], **keys).train_plan()
    return plan.callbacks[-1](), plan.stored[-1]


def test_gradients_follow_the_formula():
    from types import SimpleNamespace

    import numpy as np
    import torch

    filter_, _ = callback(grokfast_alpha=0.9, grokfast_lamb=3.0)
    model = torch.nn.Linear(3, 2, bias=False)
    mean = None
    for gradient in np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32):
        model.weight.grad = torch.tensor(gradient)
        filter_.on_pre_optimizer_step(SimpleNamespace(fp16=False), None, None, model=model)
        mean = gradient if mean is None else mean
        mean = 0.9 * mean + 0.1 * gradient
        np.testing.assert_allclose(model.weight.grad.numpy(), gradient + 3 * mean, rtol=1e-5, atol=1e-6)


def test_an_overflow_does_not_stay():
    from types import SimpleNamespace

    import torch

    filter_, _ = callback()
    model = torch.nn.Linear(2, 2)
    model.weight.grad = torch.full((2, 2), float("inf"))
    filter_.on_pre_optimizer_step(SimpleNamespace(fp16=True), None, None, model=model)
    assert filter_.means == {}


def test_the_means_are_in_checkpoints(tmp_path):
    from types import SimpleNamespace

    import torch

    model = torch.nn.Linear(2, 2)
    (one, stored), (other, again) = callback(), callback()
    model.weight.grad = torch.ones(2, 2)
    one.on_pre_optimizer_step(SimpleNamespace(fp16=False), None, None, model=model)
    stored.save(model, tmp_path)
    again.load(model, tmp_path)
    assert torch.equal(other.means["weight"], one.means["weight"])


def test_a_resumed_run_equals_a_straight_one(model_dir, tmp_path):
    from tests.training.test_optimizers import trainer_of
    from tests.training.tiny import same, trained

    from newt.training.fit import fit

    keys = {"plugins": ["GrokfastPlugin"], "grokfast_alpha": 0.5}
    whole, cfg = trainer_of(model_dir, tmp_path / "a", "adamw_torch", **keys)
    fit(whole, cfg)
    plain, cfg = trainer_of(model_dir, tmp_path / "c", "adamw_torch")
    fit(plain, cfg)
    keys["resume_from_checkpoint"] = str(tmp_path / "a" / "checkpoint-2")
    resumed, cfg = trainer_of(model_dir, tmp_path / "b", "adamw_torch", **keys)
    fit(resumed, cfg)
    assert same(trained(whole), trained(resumed))
    assert not same(trained(whole), trained(plain))
