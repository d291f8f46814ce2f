"""What all trackers have in common: none of them may hold up a run, or end it."""

import json
import threading
from pathlib import Path

import pytest
import yaml
from tests.helpers import make_config, make_run
from tests.training import tiny
from tests.training.tiny import Data, Rows, same, trained
from tests.training.tracked import drive

from newt.training import trackers
from newt.training.callbacks.base import run_ended
from newt.training.callbacks.tracking import histogram, tracking
from newt.training.fit import fit
from newt.training.trackers import Desk, TrackedRun, Tracker, grouped, linked_copy, numbers, without_passwords


class Recorder(Tracker):
    """Remembers its calls; ``fails`` and ``hangs`` name the one that goes wrong."""

    name = "Recorder"

    def __init__(self, fails="", hangs=""):
        self.calls = []
        self.fails, self.hangs = fails, hangs
        self.release = threading.Event()
        self.answered = False

    def _note(self, name, *details):
        self.calls.append((name, *details))
        if name == self.hangs:
            self.release.wait(600)
            self.answered = True
        if name == self.fails:
            raise SystemExit("no\nmore") if name == "start" else ConnectionError("the server is gone.")

    def start(self, run):
        self._note("start", run.from_step, run.run_id)
        return "id-1"

    def log(self, values, step):
        self._note("log", step, values)

    def histograms(self, values, step):
        self._note("histograms", step, sorted(values))

    def table(self, name, rows, step):
        self._note("table", name, rows, step)

    def upload(self, folder, name):
        self._note("upload", name, sorted(path.name for path in folder.iterdir()))

    def finish(self, ok):
        self._note("finish", ok)


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(trackers, "warn", found.append)
    return found


def run_of(tmp_path, recorder, **options):
    cfg = make_config(output_dir=str(tmp_path))
    run = TrackedRun(tmp_path, {}, tmp_path / "config.yml")
    return tracking(recorder, run, cfg, options.get("uploads"), options.get("watched", ()))


def names(recorder):
    return [call[0] for call in recorder.calls]


def test_the_events_of_a_run_arrive_in_order(tmp_path):
    recorder = Recorder()
    drive(run_of(tmp_path, recorder), tmp_path)
    assert recorder.calls == [
        ("start", 0, None),
        ("log", 1, {"loss": 1.0, "learning_rate": 1e-3}),
        ("log", 2, {"loss": 0.5, "learning_rate": 1e-3}),
        ("log", 2, {"eval_loss": 0.25}),
        ("table", "answers", [{"prompt": "one?", "answer": "two"}], 2),
        ("finish", True),
    ]


def test_a_run_that_goes_on_keeps_its_id_and_a_new_one_gets_another(tmp_path):
    drive(run_of(tmp_path, Recorder()), tmp_path)
    again, anew = Recorder(), Recorder()
    drive(run_of(tmp_path, again), tmp_path, start=2, end=3, ok=False)
    drive(run_of(tmp_path, anew), tmp_path)
    assert again.calls[0] == ("start", 2, "id-1")
    assert again.calls[-1] == ("finish", False)
    assert anew.calls[0] == ("start", 0, None)


@pytest.mark.parametrize(
    ("uploads", "expected"),
    [
        (None, []),
        ("end", [("upload", "model", ["model.safetensors"])]),
        ("checkpoint", [("upload", "checkpoint-2", ["model.safetensors"]), ("upload", "model", ["model.safetensors"])]),
    ],
)
def test_uploads(tmp_path, uploads, expected):
    recorder = Recorder()
    drive(run_of(tmp_path, recorder, uploads=uploads), tmp_path)
    assert [call for call in recorder.calls if call[0] == "upload"] == expected
    assert not list(tmp_path.glob(".recorder-*")), "the copies are gone"


def test_histograms_of_what_is_trained(tmp_path):
    recorder = Recorder()
    drive(run_of(tmp_path, recorder, watched=("gradients", "parameters")), tmp_path, end=1)
    wanted = ["gradients/bias", "gradients/weight", "parameters/bias", "parameters/weight"]
    assert ("histograms", 1, wanted) in recorder.calls


def test_counts_and_edges_of_a_histogram():
    import torch

    counts, edges = histogram(torch.tensor([0.0, 1.0, 1.0, float("nan"), float("inf")]))
    assert (sum(counts), counts[0], counts[-1], edges[0], edges[-1]) == (3, 1, 2, 0, 1)
    assert len(edges) == len(counts) + 1
    assert sum(histogram(torch.zeros(4))[0]) == 4
    assert sum(histogram(torch.zeros(0))[0]) == 0


@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        ("start", "no"),
        ("log", "the server is gone"),
        ("histograms", "the server is gone"),
        ("table", "the server is gone"),
        ("upload", "the server is gone"),
        ("finish", "the server is gone"),
    ],
)
def test_a_tracker_that_raises_is_left_out_and_told_once(tmp_path, warnings, fails, reason):
    recorder = Recorder(fails=fails)
    drive(run_of(tmp_path, recorder, uploads="checkpoint", watched=("gradients",)), tmp_path)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"Recorder is left out from here on, and the run goes on: {reason}")
    assert not list(tmp_path.glob(".recorder-*"))
    assert names(recorder)[-1] == fails, "nothing is asked of it afterwards"


@pytest.mark.parametrize("hangs", ["start", "log", "histograms", "table", "finish"])
def test_a_tracker_that_hangs_is_left_out_and_told_once(tmp_path, warnings, monkeypatch, hangs):
    monkeypatch.setattr(trackers.Desk.send, "__defaults__", (0.2,))
    recorder = Recorder(hangs=hangs)
    drive(run_of(tmp_path, recorder, watched=("gradients",)), tmp_path)
    assert not recorder.answered, "nobody waits for it"
    assert len(warnings) == 1
    assert "it does not answer" in warnings[0]
    recorder.release.set()


def test_a_tracker_that_does_not_keep_up(warnings):
    release = threading.Event()
    desk = Desk("Slow", size=2)
    for _ in range(5):
        desk.send(lambda: release.wait(20))
    assert desk.dropped
    assert len(warnings) == 1
    assert "it does not keep up" in warnings[0]
    release.set()
    desk.close()


def test_a_queue_that_is_full_at_the_end_holds_up_nobody(warnings):
    release, begun = threading.Event(), threading.Event()
    desk = Desk("Slow", size=1)
    desk.send(lambda: (begun.set(), release.wait(20)))
    assert begun.wait(20)
    desk.send(lambda: None)
    desk.close()
    assert warnings == [
        "Slow is left out from here on, and the run goes on: it does not keep up. metrics.jsonl has every number."
    ]
    release.set()


def test_the_user_is_told_what_is_waited_for(monkeypatch):
    said, release = [], threading.Event()
    monkeypatch.setattr(trackers, "SAY_SECONDS", 0.0)
    monkeypatch.setattr(trackers, "note", lambda text: (said.append(text), release.set()))
    desk = Desk("Slow")
    desk.send(lambda: release.wait(20))
    desk.close()
    assert said == ["Waiting for Slow"]


@pytest.mark.parametrize("fails", ["start", "log", "finish"])
def test_of_two_trackers_one_may_fail(model_dir, tmp_path, warnings, fails):
    """In a whole run: the other one hears everything, and the weights are those of a run without either."""
    plain, tracked = tmp_path / "plain", tmp_path / "tracked"
    data = Data(Rows(16), Rows(2))
    options = {"data": data, "packed": False, "max_steps": 3, "logging_steps": 1, "eval_steps": 3}
    _, alone = tiny.run(model_dir, plain, **options)
    bad, good = Recorder(fails=fails), Other()
    makers = [lambda: run_of(tracked, bad), lambda: run_of(tracked, good)]
    trainer, cfg = tiny.make(model_dir, tracked, callbacks=makers, **options)
    with run_ended(trainer) as ended:
        outcome = fit(trainer, cfg)
        ended(tracked)
    assert outcome.global_step == 3
    assert len(warnings) == 1
    assert warnings[0].startswith("Recorder is left out")
    steps = [call[1] for call in good.calls if call[0] == "log" and "loss" in call[2]]
    assert (steps, names(good)[0], names(good)[-1]) == ([1, 2, 3], "start", "finish")
    assert same(trained(alone), trained(trainer))
    metrics = [json.loads(line) for line in (tracked / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "loss" in line] == [1, 2, 3]


class Other(Recorder):
    """A second tracker."""

    name = "Other"


def test_the_page_names_every_variable_that_is_set():
    page = (Path(__file__).parents[2] / "docs/environment.md").read_text()
    keys = {
        **{"use_wandb": True, "use_mlflow": True, "use_comet": True, "use_trackio": True, "use_swanlab": True},
        **{"plugins": ["SwanLabPlugin"], "swanlab_project": "p", "use_tensorboard": True, "use_otel_metrics": True},
    }
    parts = [part for part in make_run(**keys).parts if isinstance(part, trackers.TrackerFeature)]
    assert len(parts) == 7
    missing = [name for part in parts for name in part.environment() if f"`{name}`" not in page]
    assert missing == []


def test_names_of_charts():
    assert grouped({"loss": 1.0, "eval_loss": 2.0, "train_loss": 3.0}) == {
        "train/loss": 1.0,
        "eval/loss": 2.0,
        "train/train_loss": 3.0,
    }
    assert numbers({"loss": 1, "text": "x", "flag": True, "none": None}) == {"loss": 1.0}


def test_no_secret_is_told(tmp_path):
    keys = {
        "output_dir": str(tmp_path / "out"),
        "comet_api_key": "SECRET",
        "mlflow_experiment_name": "e",
        "mlflow_tracking_uri": "https://me:SECRET@host/path",
    }
    run = make_run(**keys)
    for make in run.train_plan().callbacks:
        callback = make()
        assert "SECRET" not in str(callback.run)
        text = trackers.write_config(callback.cfg, callback.run.output_dir).read_text()
        assert "SECRET" not in text
        found = yaml.safe_load(text)
        assert found["mlflow_tracking_uri"] == "https://host/path"
        assert found["comet_api_key"] == "(hidden)"
        assert "output_dir" in found
        assert "num_epochs" not in found, "only what was given"
    assert without_passwords("see http://a:b@c/d and e@f.g") == "see http://c/d and e@f.g"


def test_the_variables_of_the_trackers_are_set(tmp_path, monkeypatch):
    from newt.support import env

    exported = {}
    monkeypatch.setattr(env, "export", exported.update)
    keys = {"wandb_project": "p", "wandb_run_id": "r", "wandb_mode": "offline", "wandb_watch": True}
    (make,) = make_run(output_dir=str(tmp_path), **keys).train_plan().callbacks
    make()
    wanted = {"WANDB_PROJECT": "p", "WANDB_RUN_ID": "r", "WANDB_NAME": "r", "WANDB_MODE": "offline"}
    assert exported == {**wanted, "WANDB_WATCH": "true", "WANDB_ERROR_REPORTING": "false"}


def test_a_copy_outlives_what_it_was_made_of(tmp_path):
    folder = tmp_path / "out"
    (folder / "checkpoint-1").mkdir(parents=True)
    for name in ("model.safetensors", "tokenizer.json", "run.json", "metrics.jsonl", "checkpoint-1/optimizer.pt"):
        (folder / name).write_text(name)
    copy = linked_copy(folder, tmp_path / "copy", model_only=True)
    (folder / "tokenizer.json").unlink()
    assert sorted(path.name for path in copy.iterdir()) == ["model.safetensors", "tokenizer.json"]
    assert (copy / "tokenizer.json").read_text() == "tokenizer.json"
    assert (linked_copy(folder, tmp_path / "copy") / "checkpoint-1/optimizer.pt").is_file()


@pytest.mark.parametrize("ours", [None, "1", "0"])
@pytest.mark.parametrize("general", [None, "true", "false"])
def test_there_is_nothing_to_opt_out_of(monkeypatch, ours, general):
    """Whatever the variables say: no tracker without a key that asks for it, and no connection."""
    for name, value in (("NEWT_DO_NOT_TRACK", ours), ("AXOLOTL_DO_NOT_TRACK", ours), ("DO_NOT_TRACK", general)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    asked = []
    monkeypatch.setattr("socket.socket.connect", lambda *args: asked.append(args))
    run = make_run()
    assert run.problems() is not None
    assert run.train_plan().callbacks == []
    assert asked == []


def test_only_the_first_process_tracks(tmp_path):
    import types

    recorder = Recorder()
    callback = run_of(tmp_path, recorder)
    other = types.SimpleNamespace(global_step=0, is_world_process_zero=False)
    callback.on_train_begin(None, other, None)
    callback.on_log(None, other, None, logs={"loss": 1.0})
    callback.on_run_end(tmp_path)
    assert recorder.calls == []
