"""The conversation on the console."""

from __future__ import annotations

import json

import pytest

from newt.commands.chat import COMMANDS, Conversation, collapsed, hold


class Model:
    """Answers with what it was asked; every word is a piece."""

    raw = False
    source = "the base model"

    def __init__(self):
        self.sampling = {"temperature": 0.5, "seed": 42}
        self.template_kwargs = {}
        self.asked = []

    def reply(self, messages):
        self.asked.append([dict(message) for message in messages])
        yield "you said "
        yield messages[-1]["content"]

    def prompt_ids(self, messages):
        return [1] * len(messages)


def talk(*lines):
    """Let a user say some lines, then leave by Ctrl+D."""
    model, rest = Model(), iter(lines)

    def read(_):
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    hold(model, read)
    return model


def test_the_model_sees_the_whole_conversation(capsys):
    model = talk("hello", "and now")
    assert [message["content"] for message in model.asked[-1]] == ["hello", "you said hello", "and now"]
    assert "you said and now\n" in capsys.readouterr().out


def test_a_line_goes_on_after_a_backslash():
    assert talk("one\\", "two").asked[0][0]["content"] == "one\ntwo"


def test_system_undo_retry_and_reset():
    model = talk("/system Be brief.", "a", "b", "/undo", "/retry", "/reset", "c", "/system clear", "d")
    roles = [[message["role"][0] + message["content"][:1] for message in asked] for asked in model.asked]
    assert roles[1] == ["sB", "ua", "ay", "ub"]
    assert roles[2] == ["sB", "ua"]  # b is taken back, and a is asked again
    assert roles[3] == ["sB", "uc"]
    assert roles[4] == ["uc", "ay", "ud"]
    assert model.sampling["seed"] == 43


def test_settings(capsys):
    model = talk("/set temperature 0", "/set max-new-tokens 7", "/set top_k x", "/set seed -1", "/set size 3", "/set")
    assert model.sampling == {"temperature": 0.0, "seed": 42, "max_new_tokens": 7}
    out = capsys.readouterr().out
    assert "top_k must be a whole number, at least 0, got 'x'." in out
    assert "seed must be a whole number, at least 0, got '-1'." in out
    assert out.count("/set PARAMETER VALUE, with one of") == 2


def test_thinking():
    assert talk("/think on").template_kwargs == {"enable_thinking": True}
    assert talk("/think on", "/think off").template_kwargs == {"enable_thinking": False}
    assert talk("/think on", "/think default").template_kwargs == {}


def test_a_saved_conversation_is_a_row(tmp_path, capsys):
    path = tmp_path / "c.jsonl"
    talk("/save", "hi", f"/save {path}", "you", f"/save {path}", f"/save {tmp_path}/no/c.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(row["messages"]) for row in rows] == [2, 4]
    assert rows[0]["messages"][1] == {"role": "assistant", "content": "you said hi"}
    out = capsys.readouterr().out
    assert "There is nothing to save." in out
    assert "cannot be written: no such file or directory." in out


def test_help_status_and_unknown_commands(capsys):
    talk("/help", "/status", "/nope", "/exit", "never said")
    out = capsys.readouterr().out
    assert all(f"/{name} " in out for name in COMMANDS)
    assert "messages: 0, 0 tokens" in out
    assert "There is no command /nope. /help lists them." in out
    assert "never said" not in out


def test_ctrl_c_interrupts_the_answer_and_keeps_what_came(capsys):
    class Slow(Model):
        def reply(self, messages):
            yield "half"
            raise KeyboardInterrupt

    conversation = Conversation(Slow())
    conversation.take("hi")
    assert conversation.messages[-1] == {"role": "assistant", "content": "half"}
    assert "half [interrupted]" in capsys.readouterr().out


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("<think>long</think>answer", "[thinking]answer"),
        ("a <think>b</think> c <think>d</think> e", "a [thinking] c [thinking] e"),
        ("1 < 2 <thin", "1 < 2 <thin"),
        ("so <think>cut off", "so [thinking]"),
        ("<think>a < b </thin b</think>.", "[thinking]."),
    ],
)
def test_collapsed_reasoning_however_the_pieces_fall(text, shown, size):
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(collapsed(pieces)) == shown
