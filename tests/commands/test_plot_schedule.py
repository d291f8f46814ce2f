"""newt plot-schedule."""

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
