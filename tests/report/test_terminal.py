"""The terminal view, character by character."""

from __future__ import annotations

import re
from typing import Any

from rich.cells import cell_len

from newt.report import show_rows


def test_without_colour_brackets_mark_what_is_trained(row: dict[str, Any]) -> None:
    assert show_rows([row], color=False).splitlines() == [
        "chat.jsonl row 4: 6 tokens, 3 trained (50 %)",
        "0 template    │ <|user|>↵",
        "0 user        │ Hi",
        "1 template    │ <|bot|>↵",
        "1 response    ┃ ⟦Hello⟧",
        "1 end of turn ┃ ⟦<|end|>⟧",
    ]


def test_with_colour_trained_text_is_bold_green_and_the_rest_dim(row: dict[str, Any]) -> None:
    on, off, end = "\x1b[1;32m", "\x1b[2m", "\x1b[0m"
    row["tokens"] = row["tokens"][2:4]
    assert show_rows([row], color=True).splitlines() == [
        f"\x1b[1mchat.jsonl row 4: 6 tokens, 3 trained (50 %){end}",
        f"{off}1 template {end}{off}│{end} {off}<|bot|>↵{end}",
        f"{on}1 response {end}{on}┃{end} {on}Hel{end}",
        f"{off}4 more tokens are not shown.{end}",
    ]


def test_colour_and_brackets_tell_the_same(row: dict[str, Any]) -> None:
    plain = re.sub("[⟦⟧]", "", show_rows([row], color=False))
    assert re.sub(r"\x1b\[[\d;]*m", "", show_rows([row], color=True)) == plain


def test_long_text_is_wrapped_below_its_margin(row: dict[str, Any]) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 6 + "漢字" * 40 + "\n\n" + "x" * 100
    row |= {"length": 1, "tokens": [[text, 1, 1, "a reason that is longer than its margin", 12]]}
    lines = show_rows([row], width=60, color=False).splitlines()
    assert all(cell_len(line) <= 60 for line in lines[1:])
    assert lines[1].startswith("12 a reason that is… ┃ ⟦The quick") and lines[2].startswith(" " * 21 + "┃ ")
    body = "".join(line[23:] for line in lines[1:])
    assert re.sub(r"\s", "", body) == re.sub(r"\s", "", f"⟦{text[:-102]}↵↵{text[-100:]}⟧")


def test_reasons_stand_below_each_other_whether_or_not_they_have_a_turn(row: dict[str, Any]) -> None:
    row |= {"length": 2, "tokens": [["a", 1, -100, "template", None], ["b", 2, 2, "response", 12]]}
    assert show_rows([row], color=False).splitlines()[1:] == ["   template │ a", "12 response ┃ ⟦b⟧"]


def test_a_row_cannot_steer_the_terminal(row: dict[str, Any]) -> None:
    row |= {"dataset": "a\x1b]0;x\x07", "tokens": [["\x1b[2Jhi [bold]there[/bold] :smile:\r", 1, 1, "r\x1b[0m", None]]}
    assert show_rows([row], color=False).splitlines()[1] == "r␛[0m ┃ ⟦␛[2Jhi [bold]there[/bold] :smile:␍⟧"
    assert "\x1b" not in show_rows([row], color=False)


def test_rows_are_apart_and_a_bad_one_says_why(row: dict[str, Any]) -> None:
    bad = {"dataset": "chat.jsonl", "row": 5, "tokens": [], "error": "no messages"}
    assert show_rows([row, bad], color=False).splitlines()[-3:] == [
        "",
        "chat.jsonl row 5: 0 tokens, 0 trained (–)",
        "This row cannot be used: no messages",
    ]
    assert show_rows([], color=False) == ""
