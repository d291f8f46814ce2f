"""Sweeps: combinations, checks before the first start, ranking, going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from newt.commands import sweep as sweeps
from newt.commands.sweep import Member, argv, ranked, read_members
from newt.config.section import ConfigError


def settings(tmp_path: Path, text: str, overrides=()) -> list[dict]:
    path = tmp_path / "sweep.yml"
    path.write_text(text)
    return [member.settings for member in read_members(path, tmp_path / "out", dict(overrides))]


def test_the_product_of_lists(tmp_path):
    found = settings(tmp_path, "learning_rate: [1e-3, 1e-4]\nlora-r: [4, 8, 16]\n")
    assert len(found) == 6
    assert {(one["learning_rate"], one["lora_r"]) for one in found} == {
        (a, b) for a in (1e-3, 1e-4) for b in (4, 8, 16)
    }


def test_the_order_is_shuffled_and_always_the_same(tmp_path):
    # What the standard library's shuffle with seed 42 makes of five items.
    found = settings(tmp_path, "seed: [0, 1, 2, 3, 4]\n")
    assert [one["seed"] for one in found] == [3, 1, 2, 4, 0]


def test_the_numbers_follow_the_file(tmp_path):
    path = tmp_path / "sweep.yml"
    path.write_text("lora_r: [4, 8]\nseed: [0, 1]\n")
    found = sorted(read_members(path, tmp_path, {}), key=lambda member: member.name)
    assert [(member.name[-1], *member.settings.values()) for member in found] == [
        ("1", 4, 0), ("2", 4, 1), ("3", 8, 0), ("4", 8, 1),
    ]  # fmt: skip


def test_paired_sets_and_nested_keys(tmp_path):
    text = "_:\n  - {lora_r: 4, lora_alpha: 8}\n  - {lora_r: 8, lora_alpha: 16}\ntrl: [{beta: 0.1}, {beta: 0.2}]\n"
    found = settings(tmp_path, text)
    assert len(found) == 4
    assert {(one["lora_r"], one["lora_alpha"], one["trl.beta"]) for one in found} == {
        (r, 2 * r, beta) for r in (4, 8) for beta in (0.1, 0.2)
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\n", ":1: seed: must be a list"),
        ("lora_r: [1]\nseed: []\n", ":2: seed: must be a list"),
        ("_: [1]\n", ":1: _.0: must be a mapping"),
        ("seed: [1]\n_: [{seed: 2}]\n", ":1: seed: is swept twice."),
        ("output_dir: [a, b]\n", ":1: output_dir: cannot be swept"),
        ("lora_r: [1]\n", ":1: lora_r: is swept, and given on the command line."),
        ("- a\n", ":1: a config is a mapping"),
        ("{}\n", ": sweeps nothing."),
    ],
)
def test_a_wrong_sweep_file(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        settings(tmp_path, text, {"lora-r": "8"} if text == "lora_r: [1]\n" else {})
    assert f"sweep.yml{message}" in str(error.value)


def test_command_line_of_a_member(tmp_path):
    member = Member(
        "sweep0001", {"learning_rate": 1e-05, "lora_target_modules": ["q_proj"], "tf32": None}, {}, tmp_path
    )
    words = argv(member, "c.yml", {"seed": "1", "tf32": True}, "python", ())
    assert words[1:4] == ["-m", "newt.cli", "train"]
    assert words[4:] == [
        "c.yml", "--seed=1", "--tf32=null", "--learning-rate=1e-05", '--lora-target-modules=["q_proj"]',
        f"--output-dir={tmp_path}",
    ]  # fmt: skip
    (tmp_path / "checkpoint-3").mkdir()
    assert argv(member, "c.yml", {}, "python", ())[-1] == "--auto-resume-from-checkpoints=true"


def test_ranking():
    def member(name, status, **result):
        return Member(name, {}, {}, Path(), status=status, result=result)

    found = ranked(
        [
            member("a", "finished", eval_loss=None, train_loss=0.1),
            member("b", "finished", eval_loss=2.0, train_loss=0.1),
            member("c", "failed"),
            member("d", "finished", eval_loss=1.0, train_loss=3.0),
            member("e", "finished", eval_loss=2.0, train_loss=0.05),
        ]
    )
    assert [one.name for one in found] == ["d", "e", "b", "a", "c"]


def test_all_members_are_checked_before_the_first_starts(newt, write_config, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "_run", lambda command: pytest.fail("a member was started"))
    sweep = tmp_path / "sweep.yml"
    sweep.write_text("learning_rate:\n  - 1e-3\n  - -1\nlora_alhpa: [1, 2]\n")
    code, _, err = newt("train", write_config(), "--sweep", sweep)
    assert code == 2
    lines = err.splitlines()
    assert [line for line in lines if line.startswith(f"{sweep}:3: learning_rate: must be")]
    assert sum("lora_alhpa: unknown key. Did you mean lora_alpha?" in line for line in lines) == 1
    assert f"{sweep}:4: " in err
    assert not (tmp_path / "run").exists()


@pytest.fixture
def fake_runs(monkeypatch):
    """Members that end at once: their loss is 1000 times the learning rate; one rate fails."""
    started = []

    def run(command):
        keys = dict(word[2:].split("=", 1) for word in command if word.startswith("--") and "=" in word)
        started.append(keys["learning-rate"])
        if float(keys["learning-rate"]) == 0.5:
            return 1
        if keys["learning-rate"] == "0.25" and started.count("0.25") == 1:
            return 130
        folder = Path(keys["output-dir"])
        folder.mkdir(parents=True, exist_ok=True)
        loss = 1000 * float(keys["learning-rate"])
        result = {"eval": {"eval_loss": loss}, "train_loss": loss, "global_step": 4, "stopped_by": None}
        (folder / "run.json").write_text(json.dumps({"ended": "now", "result": result}))
        return 0

    monkeypatch.setattr(sweeps, "_run", run)
    return started


def test_a_failing_member_does_not_stop_the_rest(newt, write_config, tmp_path, fake_runs):
    sweep = tmp_path / "sweep.yml"
    sweep.write_text("learning_rate: [0.001, 0.5, 0.002]\n")
    code, out, err = newt("train", write_config(), "--sweep", sweep)
    assert code == 1, err
    assert sorted(fake_runs) == ["0.001", "0.002", "0.5"]
    table = [line.split() for line in out.splitlines() if line.startswith("sweep0") and ":" not in line]
    assert [row[1] for row in table] == ["1", "2", "–"]
    record = json.loads((tmp_path / "run" / "sweep.json").read_text())
    assert sorted(one["status"] for one in record["members"]) == ["failed", "finished", "finished"]
    page = (tmp_path / "run" / "sweep.html").read_text()
    assert page.index("<td>0.001</td>") < page.index("<td>0.002</td>") < page.index("<td>0.5</td>")
    assert "://" not in page.replace("http://www.w3.org", "")
    # The same call again runs only what failed.
    del fake_runs[:]
    assert newt("train", write_config(), "--sweep", sweep)[0] == 1
    assert fake_runs == ["0.5"]


def test_a_stopped_sweep_goes_on_where_it_stopped(newt, write_config, tmp_path, fake_runs):
    sweep = tmp_path / "sweep.yml"
    sweep.write_text("learning_rate: [0.001, 0.25, 0.002]\n")
    assert newt("train", write_config(), "--sweep", sweep)[0] == 130
    before = len(fake_runs)
    assert fake_runs[-1] == "0.25"
    assert newt("train", write_config(), "--sweep", sweep)[0] == 0
    assert len(fake_runs) == 4
    assert fake_runs[before] == "0.25"


def test_another_sweep_is_not_mixed_with_the_first(newt, write_config, tmp_path, fake_runs):
    sweep = tmp_path / "sweep.yml"
    sweep.write_text("learning_rate: [0.001]\n")
    assert newt("train", write_config(), "--sweep", sweep)[0] == 0
    code, _, err = newt("train", write_config(), "--sweep", sweep, "--lora-r", "16")
    assert code == 2
    assert "holds another sweep" in err
    assert newt("train", write_config(), "--sweep", sweep, "--lora-r", "16", "--overwrite-output-dir")[0] == 0


@pytest.mark.slow
def test_a_real_sweep(newt, write_config, tmp_path):
    sweep = tmp_path / "sweep.yml"
    sweep.write_text("learning_rate: [1e-2, 1e-6]\n")
    code, out, err = newt("train", write_config(max_steps=2), "--sweep", sweep)
    assert code == 0, err
    best = next(line for line in out.splitlines() if line.startswith("sweep0") and ":" not in line)
    assert "learning_rate 0.01" in best
    assert (tmp_path / "run" / "sweep0001" / "report.html").is_file()
    assert 'href="sweep0001/report.html"' in (tmp_path / "run" / "sweep.html").read_text()
