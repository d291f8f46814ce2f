"""Results go to stdout, everything else to stderr, and only the first process speaks."""

from __future__ import annotations

import uuid

import pytest

from newt.support import log


def test_where_texts_go(capsys: pytest.CaptureFixture[str]) -> None:
    log.say("result")
    log.note("remark")
    captured = capsys.readouterr()
    assert captured.out == "result\n"
    assert captured.err == "remark\n"


def test_a_warning_comes_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = uuid.uuid4().hex
    log.warn(text)
    log.warn(text)
    assert capsys.readouterr().err == f"warning: {text}\n"


def test_other_processes_are_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    log.say("a")
    log.note("b")
    log.warn(uuid.uuid4().hex)
    with log.progress("work", 10) as advance:
        advance(10)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    log.note("a")
    monkeypatch.setenv("NO_COLOR", "1")
    log.note("b")
    assert capsys.readouterr().err == "\x1b[2ma\x1b[0m\nb\n"


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    with log.progress("Tokenizing", 200) as advance:
        advance(10)
        now[0] = 11.0
        advance(40)
        advance(10)
        now[0] = 22.0
        advance(1)
    assert capsys.readouterr().err == "Tokenizing: 50 of 200 (25%)\nTokenizing: 61 of 200 (30%)\n"
    with log.progress("Reading") as advance:
        now[0] = 40.0
        advance(3)
    assert capsys.readouterr().err == "Reading: 3\n"


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with log.progress("Tokenizing", 4) as advance:
        advance(4)
    text = capsys.readouterr().err
    assert "Tokenizing" in text
    assert "4/4" in text


@pytest.mark.parametrize(
    ("level", "shown"),
    [("", "note warning"), ("info", "note warning"), ("WARNING", "warning"), ("ERROR", ""), ("?", "note warning")],
)
def test_the_level_hides_remarks_and_warnings(monkeypatch, capsys, level, shown):
    log.warn.cache_clear()
    monkeypatch.setenv("NEWT_LOG_LEVEL", level)
    log.note("a note")
    log.warn("something")
    log.say("a result")
    streams = capsys.readouterr()
    assert [word for word in ("note", "warning") if word in streams.err] == shown.split()
    assert streams.out == "a result\n"


def test_everything_that_is_said_is_mirrored(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("NEWT_LOG_LEVEL", "ERROR")
    path, mark = tmp_path / "debug.log", uuid.uuid4().hex
    path.write_text("of another run\n")
    log.note(f"before {mark}")
    with log.mirrored(path, "first"):
        log.say("inside")
        log.warn(f"careful {mark}")
    log.note("after")
    text = path.read_text()
    assert text.startswith("of another run\n")
    kinds = [line.split(" ", 3)[2:] for line in text.splitlines()[1:]]
    assert kinds[-4:] == [
        ["INFO", f"before {mark}"],
        ["INFO", "first"],
        ["INFO", "inside"],
        ["WARNING", f"careful {mark}"],
    ]
    assert capsys.readouterr().err == ""


def test_libraries_report_errors_alone():
    import logging

    from newt.support.log import CHATTY, quiet_libraries

    quiet_libraries()
    assert all(logging.getLogger(name).getEffectiveLevel() == logging.ERROR for name in CHATTY)
