"""MLflow."""

import json

import pytest
from tests.helpers import complaints
from tests.training.tracked import callback_of, drive

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"mlflow_tracking_uri": "http://x"}, "has no effect: use_mlflow is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (Facts(known=True), {"use_mlflow": True}, "needs the package mlflow"),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, packages={"mlflow": "3"}), {"use_mlflow": True}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"use_mlflow": True, "mlflow_tracking_uri": "http://x"},
        {"use_mlflow": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_a_run_in_a_database_and_its_continuation(tmp_path):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    keys = {"mlflow_experiment_name": "e", "mlflow_run_name": "r", "hf_mlflow_log_artifacts": True}
    drive(callback_of(tmp_path, **keys), tmp_path)
    run_id = json.loads((tmp_path / "trackers.json").read_text())["mlflow"]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("r", "FINISHED")
    assert run.data.params["learning_rate"] == "0.001"
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")] == [(1, 1.0), (2, 0.5)]
    assert run.data.metrics["eval_loss"] == 0.25
    files = {item.path for item in client.list_artifacts(run_id)}
    assert files == {"config.yml", "answers", "checkpoint-2", "model"}
    drive(callback_of(tmp_path, **keys), tmp_path, start=2, end=3, ok=False)
    assert [m.step for m in client.get_metric_history(run_id, "loss")] == [1, 2, 3]
    assert client.get_run(run_id).info.status == "KILLED"
    assert len(client.search_runs([run.info.experiment_id])) == 1
