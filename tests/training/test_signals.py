from __future__ import annotations

import os
import signal
import threading

import pytest

from newt.training.callbacks.signals import Signals


def test_first_signal_is_remembered_and_the_second_exits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    signals = Signals()
    with signals.caught():
        assert not signals.due
        os.kill(os.getpid(), signal.SIGTERM)
        assert (signals.due, signals.name, codes) == (True, "SIGTERM", [])
        assert "A second signal exits at once" in capsys.readouterr().err
        os.kill(os.getpid(), signal.SIGINT)
        assert codes == [130]


def test_ranks_stop_together() -> None:
    signals = Signals()
    signals.alone = False
    signals.received = signal.SIGINT
    assert not signals.due
    signals.agreed = True
    assert signals.due


def test_other_threads_cannot_catch_signals() -> None:
    before = signal.getsignal(signal.SIGINT)
    inside: list[object] = []

    def work() -> None:
        with Signals().caught():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
