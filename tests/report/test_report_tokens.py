"""The coloured tokens: what is trained is marked, nothing is lost, nothing is hidden."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from newt.report import tokens_page
from newt.report.tokens import read_row, visible

Parse = Callable[[str], Any]


def test_each_token_is_there_once_in_order(row: dict[str, Any], parse: Parse) -> None:
    text = tokens_page([row], "Tokens")
    parse(text)
    spans = re.findall(r'<div class="run (on|off).*?data-reason="(.*?)".*?<div class="text">(.*?)</div>', text, re.S)
    assert [(kind, reason) for kind, reason, _ in spans] == [
        ("off", "template"),
        ("off", "user"),
        ("off", "template"),
        ("on", "response"),
        ("on", "end of turn"),
    ]
    shown = [html.unescape(re.sub("<u>.</u>|</?i.*?>", "", inner)) for _, _, inner in spans]
    assert shown == ["<|user|>\n", "Hi", "<|bot|>\n", "Hello", "<|end|>"]
    assert re.findall(r'<i title="id (\d+)">', text) == ["1", "20", "2", "30", "31", "3"]


def test_the_counts_are_those_of_the_row(row: dict[str, Any], parse: Parse) -> None:
    page = parse(tokens_page([row], "Tokens"))
    (details,) = page.find("details", class_="row")
    assert (details["data-length"], details["data-trained"], float(details["data-masked"])) == ("6", "3", 0.5)
    assert "3 trained · 50 %" in page.text and "6 tokens" in page.text
    assert page.find("rect", x="3", width="2") and page.find("rect", x="5", width="1")
    legend = re.findall(r'data-reason="([^"]*)"><i>[^<]*</i> (\d+)', tokens_page([row], "Tokens"))
    assert legend == [("response", "2"), ("end of turn", "1"), ("template", "2"), ("user", "1")]


def test_newlines_tabs_and_what_has_no_text_are_visible(row: dict[str, Any]) -> None:
    row["tokens"] = [["a\n\tb", 1, 1, "r", None], ["", 2, 2, "r", None]]
    text = tokens_page([row], "Tokens")
    assert "a<u>↵</u>\n<u>⇥</u>\tb</i>" in text and '<i title="id 2">▯</i>' in text


def test_a_label_that_is_not_the_token_is_named(row: dict[str, Any]) -> None:
    row["tokens"] = [["[MASK]", 7, 99, "masked by diffusion", None]]
    assert 'title="id 7, learns 99"' in tokens_page([row], "Tokens")


def test_control_characters_cannot_act() -> None:
    assert visible("\x1b[2J\x07 a\u202eb\u200bc\x7f") == "␛[2J␇ a\\u202eb\\u200bc␡"
    assert visible("👩\u200d💻 \u00a0é漢\n\t") == "👩\u200d💻 \u00a0é漢\n\t"
    assert visible("\ud800") == "\\ud800"


def test_a_row_that_cannot_be_used_says_why(parse: Parse) -> None:
    bad = {
        "dataset": "a.jsonl",
        "row": 3,
        "raw": {"x": 1},
        "length": 0,
        "trained": 0,
        "tokens": [],
        "error": "no messages",
    }
    page = parse(tokens_page([bad], "Tokens"))
    assert "This row cannot be used: no messages" in page.text and "reason" not in page.text


def test_missing_fields_are_counted_from_the_tokens() -> None:
    row = read_row({"tokens": [["a", 1, 1], ["b", 2, -100, None, None], ["c", 3, None]]})
    assert (row.length, row.trained, row.dataset, row.raw) == (3, 1, "dataset", "")


def test_no_rows_are_a_page_too(parse: Parse) -> None:
    page = parse(tokens_page([], "<b>"))
    assert "There are no rows." in page.text and not page.find("b")


def test_only_so_many_rows_fit(row: dict[str, Any], parse: Parse) -> None:
    page = parse(tokens_page([row] * 203, "Tokens"))
    assert "3 more rows are not shown here." in page.text and "200 rows" in page.text


def test_rows_can_be_ordered(row: dict[str, Any], parse: Parse) -> None:
    page = parse(tokens_page([row, row], "Tokens"))
    orders = [b["data-order"] for b in page.find("button") if "data-order" in b]
    assert orders == ["", "length", "-length", "masked", "-masked"]
    (bar,) = page.find("div", class_="order")
    assert "hidden" in bar, "without its script the bar would do nothing"
