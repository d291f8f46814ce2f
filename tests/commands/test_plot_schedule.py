"""newt plot-schedule."""

import math

import pytest
from click.testing import CliRunner
from tests.helpers import make_run

from newt.commands.plot_schedule import command, peaks, rates_of
from newt.support.errors import NewtError

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
CONFIG = """
base_model: {model}
datasets: [{{path: rows.jsonl, type: chat_template}}]
chat_template: chatml
learning_rate: 1e-3
micro_batch_size: 2
gradient_accumulation_steps: 2
num_epochs: 2
lr_scheduler: linear
warmup_steps: 2
embedding_lr: 1e-4
"""
ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"all": 1e-3}),
        ({"embedding_lr_scale": 0.5}, {"embeddings": 5e-4, "all others": 1e-3}),
        (
            {"lr_groups": [{"name": "a", "modules": ["q"], "lr": 2e-3}], "embedding_lr": 1e-5},
            {"a": 2e-3, "embeddings": 1e-5, "all others": 1e-3},
        ),
        ({**LORA, "loraplus_lr_ratio": 4}, {"A": 1e-3, "B": 4e-3, "embedding": 1e-6}),
        ({"optimizer": "dion", "dion_lr": 0.02}, {"matrices": 0.02, "all others": 1e-3}),
    ],
)
def test_peaks(keys, expected):
    assert peaks(make_run(**keys)) == expected


def test_the_rates_are_those_of_the_run():
    rates = rates_of(make_run(lr_scheduler="linear", warmup_steps=2, embedding_lr=1e-4), 6)
    expected = [0, 0.5, 1, 0.75, 0.5, 0.25]
    assert rates["all others"] == pytest.approx([1e-3 * factor for factor in expected])
    assert rates["embeddings"] == pytest.approx([1e-4 * factor for factor in expected])


def after_warmup(fall, rise=lambda part: part):
    """A factor of (step, warm-up, all steps): ``rise`` of the part of the warm-up, then ``fall`` of the rest."""

    def factor(s, w, t):
        return rise(s / w) if s < w else fall((s - w) / (t - w) if t > w else 1.0)

    return factor


def cosine(p, low=0.0, cycles=0.5):
    return low + (1 - low) * (1 + math.cos(2 * math.pi * cycles * p)) / 2


def rex(p, low=0.0):
    return low + (1 - low) * (1 - p) / (0.1 + 0.9 * (1 - p))


def one_cycle(s, w, t, first=1 / 25, last=1 / 25e4):
    low, high, p = (first, 1.0, s / (w - 1)) if s < w else (1.0, last, (s - w + 1) / (t - w))
    return low + (high - low) * (1 - math.cos(math.pi * p)) / 2


def stable_decay(s, w, t, decay=4, low=0.1):
    if s < w:
        return low + (1 - low) * s / w
    return 1.0 if s < t - decay else cosine((s - t + decay) / decay, low)


FORMULAS = [
    ("cosine", {}, after_warmup(cosine)),
    ("cosine", {"lr_scheduler_kwargs": {"num_cycles": 1.5}}, after_warmup(lambda p: cosine(p, cycles=1.5))),
    ("cosine", {"cosine_min_lr_ratio": 0.2}, after_warmup(lambda p: cosine(p, 0.2))),
    (
        "cosine", {"cosine_min_lr_ratio": 0.2, "cosine_constant_lr_ratio": 0.8},
        lambda s, w, t: s / w if s < w else cosine(min(1, (s - w) / (max(int(0.8 * t), w + 1) - w)), 0.2),
    ),
    ("cosine", {"lr_quadratic_warmup": True}, after_warmup(cosine, lambda part: part**2)),
    ("linear", {}, after_warmup(lambda p: 1 - p)),
    ("constant", {}, lambda s, w, t: 1.0),
    ("constant_with_warmup", {}, after_warmup(lambda p: 1.0)),
    ("polynomial", {"lr_scheduler_kwargs": {"power": 2, "lr_end": 2e-4}},
     after_warmup(lambda p: 0.2 + 0.8 * (1 - p) ** 2)),
    ("inverse_sqrt", {"lr_scheduler_kwargs": {"timescale": 9}},
     lambda s, w, t: s / w if s < w else ((s - w + 9) / 9) ** -0.5),
    ("cosine_with_restarts", {"lr_scheduler_kwargs": {"num_cycles": 3}},
     after_warmup(lambda p: 0.0 if p >= 1 else cosine(3 * p % 1))),
    ("cosine_with_min_lr", {"lr_scheduler_kwargs": {"min_lr": 2e-4}}, after_warmup(lambda p: cosine(p, 0.2))),
    ("cosine_with_min_lr", {"lr_scheduler_kwargs": {"min_lr_rate": 0.3}}, after_warmup(lambda p: cosine(p, 0.3))),
    (
        "cosine_warmup_with_min_lr", {"lr_scheduler_kwargs": {"min_lr_rate": 0.3}},
        lambda s, w, t: (s + 1) / w if s < w else cosine((s + 1 - w) / max(1, t - w), 0.3),
    ),
    (
        "cosine_warmup_with_min_lr", {"lr_scheduler_kwargs": {"min_lr": 1e-4, "warmup_lr_rate": 0.5}},
        lambda s, w, t: 0.5 + 0.5 * s / (w - 1) if s < w else cosine((s + 1 - w) / max(1, t - w), 0.1),
    ),
    ("warmup_stable_decay", {"lr_scheduler_kwargs": {"num_decay_steps": 4, "min_lr_ratio": 0.1}}, stable_decay),
    ("rex", {}, after_warmup(rex)),
    ("rex", {"cosine_min_lr_ratio": 0.2}, after_warmup(lambda p: rex(p, 0.2))),
    ("one_cycle", {}, one_cycle),
    ("one_cycle", {"lr_div_factor": 10}, lambda s, w, t: one_cycle(s, w, t, 0.1, 1e-5)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "keys", "formula", "warmup"),
    [
        (*case, warmup)
        for case in FORMULAS
        for warmup in (0, 2, 7, 20)
        if warmup < 20 or case[0] != "warmup_stable_decay"  # no step would be left for its decay, which is refused
    ],
)
def test_every_schedule_follows_its_formula_at_every_step(name, keys, formula, warmup):
    steps = 20
    groups = {"lr_groups": [{"name": "q", "modules": ["q_proj"], "lr": 3e-3}], "embedding_lr": 1e-4}
    rates = rates_of(make_run(lr_scheduler=name, warmup_steps=warmup, max_steps=steps, **groups, **keys), steps)
    expected = [formula(step, warmup, steps) for step in range(steps)]
    assert rates == {
        group: pytest.approx([peak * factor for factor in expected], rel=1e-9, abs=1e-15)
        for group, peak in {"q": 3e-3, "embeddings": 1e-4, "all others": 1e-3}.items()
    }


def test_restarts_are_drawn():
    rates = rates_of(make_run(lr_scheduler="constant", jagged_restart_steps=20), 40)["all"]
    assert rates[20] < 1e-5
    assert rates[39] == 1e-3


def test_a_schedule_that_follows_evaluations_has_no_curve():
    with pytest.raises(NewtError, match="greedy follows the evaluations"):
        rates_of(make_run(lr_scheduler="greedy", val_set_size=0.1), 10)


@pytest.fixture
def folder(model_dir, tmp_path, monkeypatch):
    (tmp_path / "c.yml").write_text(CONFIG.format(model=model_dir))
    (tmp_path / "rows.jsonl").write_text("".join(ROW.replace("Hi", f"Hi {n}") for n in range(10)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args):
    return CliRunner().invoke(command, ["c.yml", *args], catch_exceptions=False)


def test_the_steps_come_from_the_data(folder):
    found = run()
    assert found.exit_code == 0, found.output
    # 10 rows, 2 in a micro-batch, 2 micro-batches a step: 3 steps in each of 2 epochs
    assert "step 0  step 5" in found.output
    assert "all others: begins at 0, highest 0.001 at step 2, ends at 0.00025" in found.output


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_pictures(folder, ending):
    found = run("--steps", "30", "--output", f"out.{ending}")
    assert f"The curve is in out.{ending}" in found.output
    text = (folder / f"out.{ending}").read_text()
    assert "embeddings" in text
    assert "</svg>" in text


def test_another_ending_is_refused(folder):
    found = run("--output", "out.gif")
    assert found.exit_code == 2
    assert "must end in .svg, .html or .png" in found.output
