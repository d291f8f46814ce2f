"""What every tracker has in common. Training never waits for one, and none of them can stop it. Torch-free."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal

import yaml

from newt.config.core import RunControl
from newt.config.secrets import redacted
from newt.config.section import Config, Problem
from newt.extend import Feature, TrainPlan
from newt.support import env
from newt.support.files import write_atomically
from newt.support.log import note, warn

CONFIG = "config.yml"
RUNS = "trackers.json"
QUEUED = 1000
"""Calls that may wait for a tracker. More means that it hangs."""
CALL_SECONDS = 120.0
"""Longest that a call may take."""
SAY_SECONDS = 3.0
"""After so long the user is told what is waited for."""
UPLOAD_SECONDS = 3600.0
"""Longest that an upload may take."""

Uploads = Literal["checkpoint", "end"] | None


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about a run.

    Attributes:
        output_dir: folder of the run.
        config: every key with its value, without secrets.
        config_file: the keys that were given, as YAML, without secrets.
        from_step: the step that the run goes on from, 0 for a new one.
        run_id: id of the run that is gone on with, as ``Tracker.start`` gave it.
    """

    output_dir: Path
    config: Mapping[str, Any]
    config_file: Path
    from_step: int = 0
    run_id: str | None = None


class Tracker:
    """Where numbers go. All calls come from one thread, one after another; each may raise anything.

    Class attributes:
        name: how messages call it.
    """

    name: ClassVar[str]

    @property
    def key(self) -> str:
        """How files call it."""
        return type(self).__name__.strip("_").lower()

    def start(self, run: TrackedRun) -> str | None:
        """Begin, or go on with ``run.run_id``. Gives the id with which the run can be gone on with."""
        raise NotImplementedError

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a step, with the trainer's names (``loss``, ``eval_loss``)."""
        raise NotImplementedError

    def histograms(self, values: Mapping[str, tuple[list[float], list[float]]], step: int) -> None:
        """Counts (bins,) and edges (bins + 1,) by name."""

    def table(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        """Rows with the same columns."""

    def upload(self, folder: Path, name: str) -> None:
        """Keep the files of a folder under a name."""

    def finish(self, ok: bool) -> None:
        """End the run."""


class _Caught:
    """Holds whatever a block raised: a tracker may raise anything, and nothing of it may stop the run."""

    error: BaseException | None = None

    def __enter__(self) -> _Caught:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.error = error
        return True


class Desk:
    """Makes the calls to one tracker in a thread of its own, in order; drops the tracker when one fails or hangs."""

    def __init__(self, name: str, size: int = QUEUED) -> None:
        """Start the thread.

        Args:
            name: of the tracker, for messages.
            size: calls that may wait.
        """
        self.name = name
        self.dropped = False
        self._calls: queue.Queue[tuple[Callable[[], None], float] | None] = queue.Queue(size)
        self._deadline = float("inf")
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=f"newt-{name}", daemon=True)
        self._thread.start()

    def send(self, call: Callable[[], None], seconds: float = CALL_SECONDS) -> None:
        """Have a call made; it may take so many seconds. Returns at once."""
        if self.dropped:
            return
        if time.monotonic() > self._deadline:
            self._drop("it does not answer")
            return
        try:
            self._calls.put_nowait((call, seconds))
        except queue.Full:
            self._drop("it does not keep up")

    def close(self, *, say: bool = True) -> None:
        """Wait until all calls are made; not longer than the one that is being made may take.

        Args:
            say: tell the user when it takes some seconds.
        """
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            self._drop("it does not keep up")
        begin = time.monotonic()
        while self._thread.is_alive() and not self.dropped:
            self._thread.join(0.05)
            if say and time.monotonic() - begin > SAY_SECONDS:
                note(f"Waiting for {self.name}")
                say = False
            if time.monotonic() > self._deadline:
                self._drop("it does not answer")

    def _work(self) -> None:
        while (entry := self._calls.get()) is not None and not self.dropped:
            call, seconds = entry
            self._deadline = time.monotonic() + seconds
            with _Caught() as caught:
                call()
            self._deadline = float("inf")
            if caught.error is not None:
                self._drop(_first_line(caught.error))

    def _drop(self, reason: str) -> None:
        with self._lock:
            if self.dropped:
                return
            self.dropped = True
        warn(f"{self.name} is left out from here on, and the run goes on: {reason}. metrics.jsonl has every number.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".") or type(error).__name__


# --------------------------------------------------------------------------- names


def numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """What of a log event is a number."""
    return {key: float(value) for key, value in logs.items() if type(value) in (int, float)}


def grouped(values: Mapping[str, float]) -> dict[str, float]:
    """The names that charts are grouped by: ``eval_loss`` becomes ``eval/loss``, ``loss`` becomes ``train/loss``."""
    return {
        f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}": value for name, value in values.items()
    }


# --------------------------------------------------------------------------- files


def write_config(cfg: Config, output_dir: Path) -> Path:
    """Write the keys that were given, without secrets, to ``config.yml``."""
    top = {key.partition(".")[0] for key in cfg.given}
    given = {key: value for key, value in redacted(cfg.to_dict()).items() if key in top}
    output_dir.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(_without_none(given), sort_keys=False, allow_unicode=True)
    write_atomically(output_dir / CONFIG, without_passwords(text))
    return output_dir / CONFIG


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def without_passwords(text: str) -> str:
    """A text in which the addresses have no user and password (``https://me:secret@host``)."""
    return re.sub(r"://[^/@\s]+@", "://", text)


MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.jinja"),
    *("chat_template.json", "preprocessor_config.json", "processor_config.json", "*.py"),
)
"""Files that make up a model and its tokenizer."""


def linked_copy(folder: Path, into: Path, *, model_only: bool = False) -> Path:
    """A second folder with the same files, which stay when the first is deleted; takes no space where links work.

    Args:
        folder: what is copied.
        into: the copy; it is replaced.
        model_only: only the files of a model, of a folder that holds other things too.
    """
    shutil.rmtree(into, ignore_errors=True)
    if model_only:
        into.mkdir(parents=True)
        for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()}):
            _link(str(path), str(into / path.name))
    else:
        shutil.copytree(folder, into, copy_function=_link)
    return into


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        shutil.copy2(source, target)


_lock = threading.Lock()


def stored_run(output_dir: Path, name: str) -> str | None:
    """The id under which a tracker knows the run of a folder."""
    found = _stored(output_dir).get(name)
    return found if isinstance(found, str) else None


def store_run(output_dir: Path, name: str, run_id: str | None) -> None:
    """Remember it."""
    with _lock:
        write_atomically(output_dir / RUNS, json.dumps({**_stored(output_dir), name: run_id}, indent=1))


def _stored(output_dir: Path) -> dict[str, Any]:
    try:
        found = json.loads((output_dir / RUNS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# --------------------------------------------------------------------------- parts


class TrackerFeature(Feature):
    """A Part that adds a tracker.

    Class attributes:
        keys: those that switch it on.
        packages: distributions, one of which it needs.
        extra: the extra that installs it.
    """

    keys: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]

    def tracker(self) -> Tracker:
        """Make it. Imports nothing: ``Tracker.start`` does."""
        raise NotImplementedError

    def uploads(self) -> Uploads:
        """Which folders it gets."""
        return None

    def watched(self) -> tuple[str, ...]:
        """``gradients`` and ``parameters`` of which it gets histograms."""
        return ()

    def environment(self) -> Mapping[str, Any]:
        """Variables of the tracker for code of the user; those that are None are left alone."""
        return {}

    def check(self) -> Iterable[Problem]:
        """The package."""
        installed = {name.replace("_", "-") for name in self.facts.packages}
        if self.facts.known and not installed & set(self.packages):
            hint = f"Install it: pip install 'newt-tune[{self.extra}]'"
            yield self.problem(self.keys, f"needs the package {self.packages[0]}.", hint)

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the callback."""
        plan.callbacks.append(self._callback)

    def _callback(self) -> Any:
        from newt.training.callbacks.tracking import tracking

        env.export({name: _text(value) for name, value in self.environment().items() if value is not None})
        output_dir = Path(self.cfg[RunControl].output_dir).expanduser()
        config = {key: value for key, value in redacted(self.cfg.to_dict()).items() if value is not None}
        tracked = TrackedRun(output_dir, json.loads(without_passwords(json.dumps(config))), output_dir / CONFIG)
        return tracking(self.tracker(), tracked, self.cfg, self.uploads(), self.watched())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
