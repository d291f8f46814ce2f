"""Multiple-choice questions."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"do_bench_eval": True}, "Set eval_steps or evals_per_epoch"),
        ({"do_bench_eval": True, "eval_steps": 5}, "the questions are all that is evaluated"),
        ({"do_bench_eval": True, "eval_steps": 5, "bench_dataset": "./none.json"}, "./none.json was not found"),
        ({"bench_dataset": "mmlu-zs"}, "has no effect: do_bench_eval is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"do_bench_eval": True, "eval_steps": 5, "bench_dataset": "mmlu-zs", "val_set_size": 0.1},
        {"do_bench_eval": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_without_evaluation_rows_it_is_only_a_warning():
    (problem,) = make_run(do_bench_eval=True, eval_steps=5).problems()
    assert (problem.kind, problem.keys) == ("warning", ("do_bench_eval",))


def test_what_the_evaluation_gets(tmp_path, monkeypatch):
    from newt.training import bench

    made = []
    monkeypatch.setattr(bench, "Bench", lambda *found: made.append(found) or (lambda trainer: {"x": 1.0}))
    file = tmp_path / "questions.json"
    file.touch()
    keys = {"do_bench_eval": True, "eval_steps": 5, "val_set_size": 0.1}
    for more in ({}, {"bench_dataset": str(file), "bench_split": "test"}):
        (evaluate,) = make_run(**keys, **more).train_plan().evaluations
        assert evaluate(None) == evaluate(None) == {"x": 1.0}
    assert made == [("mmlu-zs", "eval"), (str(file), "test")]
