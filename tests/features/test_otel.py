"""OpenTelemetry."""

import socket
import types
from urllib.request import urlopen

import pytest
from tests.helpers import complaints
from tests.training.tracked import callback_of, state

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"otel_metrics_port": 9000}, "has no effect: use_otel_metrics is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"use_otel_metrics": False, "otel_metrics_host": "localhost", "otel_metrics_port": 8000},
        {"use_otel_metrics": True, "otel_metrics_port": 9000},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def read(port):
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def wait_for(desk):
    import threading

    done = threading.Event()
    desk.send(done.set)
    assert done.wait(20)


def test_metrics_over_http_while_the_run_lasts(tmp_path):
    pytest.importorskip("opentelemetry.exporter.prometheus")
    pytest.importorskip("prometheus_client")
    port = free_port()
    keys = {"use_otel_metrics": True, "otel_metrics_port": port, "otel_metrics_host": "127.0.0.1"}
    callback = callback_of(tmp_path, **keys)
    callback.on_train_begin(types.SimpleNamespace(output_dir=str(tmp_path)), state(5), None)
    logs = {"loss": 0.5, "learning_rate": 1e-3, "grad_norm": 2.0, "epoch": 0.1, "memory_gib": 1.5}
    callback.on_log(None, state(6), None, logs=logs)
    callback.on_log(None, state(8), None, logs={"eval_loss": 0.25, "eval_chrf": 40.0})
    wait_for(callback.desk)
    found = read(port)
    assert found["global_step_total"] == 8
    assert (found["train_loss"], found["eval_loss"], found["learning_rate"]) == (0.5, 0.25, 1e-3)
    assert (found["grad_norm"], found["epoch"], found["memory_gib"]) == (2.0, 0.1, 1.5)
    assert found["eval_chrf"] == 40, "made on demand"
    callback.on_run_end(tmp_path)
    with pytest.raises(OSError, match=r"refused|reset|closed"):
        read(port)


def test_a_port_that_is_taken_does_not_end_the_run(tmp_path, monkeypatch):
    pytest.importorskip("prometheus_client")
    said = []
    monkeypatch.setattr("newt.training.trackers.warn", said.append)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        keys = {"use_otel_metrics": True, "otel_metrics_port": port, "otel_metrics_host": "127.0.0.1"}
        callback = callback_of(tmp_path, **keys)
        callback.on_train_begin(None, state(0), None)
        callback.on_log(None, state(1), None, logs={"loss": 1.0})
        callback.on_run_end(tmp_path)
    assert len(said) == 1
    assert "OpenTelemetry is left out" in said[0]


def test_without_the_package_it_is_only_a_warning():
    from tests.helpers import make_run

    (problem,) = [p for p in make_run(Facts(known=True), use_otel_metrics=True).problems() if "use_otel" in str(p)]
    assert problem.kind == "warning"
    assert "pip install 'newt-tune[otel]'" in str(problem)
