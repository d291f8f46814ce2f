"""The conversation view: one bubble for each turn, and what of it is trained."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from newt.report import tokens_page
from newt.report.tokens import read_row
from newt.report.turns import Piece, bubbles, conversation

Parse = Callable[[str], Any]
TOKENS = [
    ["<|im_start|>", 1, -100, "template text", None],
    ["user", 2, -100, "role header", 0],
    ["\n", 3, -100, "template text", None],
    ["Hi</script>", 4, -100, "user turn: not trained", 0],
    ["assistant", 5, -100, "generation prompt", 1],
    ["<think>\n", 6, 6, "template text of the turn", 1],
    ["Hm.", 7, 7, "reasoning", 1],
    ["Hel", 8, 8, "assistant content", 1],
    ["lo", 9, 9, "assistant content", 1],
    ["<|im_end|>", 10, 10, "stop token", 1],
]


def explained(**more: Any) -> dict[str, Any]:
    return {"dataset": "a.jsonl", "row": 0, "tokens": TOKENS, "roles": ["user", "assistant", "critic"], **more}


def test_turns_are_made_of_the_tokens_without_the_headers() -> None:
    row = read_row(explained())
    user, assistant, critic = bubbles(row.roles, row.spans)
    assert (user.role, user.trained, user.pieces) == ("user", False, [Piece("content", False, "Hi</script>")])
    assert assistant.trained and [(piece.kind, piece.trained, piece.text) for piece in assistant.pieces] == [
        ("template", True, "<think>\n"),
        ("reasoning", True, "Hm."),
        ("content", True, "Hello"),
        ("stop", True, "<|im_end|>"),
    ]
    assert (critic.turn, critic.pieces) == (2, [])


def test_bubbles_are_escaped_marked_and_named(parse: Parse) -> None:
    row = read_row(explained(roles=["user", "assistant", '"><script>']))
    text = conversation(row.roles, row.spans)
    page = parse(text)
    assert [attributes["class"] for _, attributes in page.tags if "bubble" in (attributes.get("class") or "")] == [
        "bubble user",
        "bubble assistant learned",
        "bubble other",
    ]
    assert "<script>" not in text and "Hi&lt;/script&gt;" in text and "The template leaves this turn out." in text
    assert re.findall(r'<span class="(\w+ on)">', text) == ["template on", "reasoning on", "content on", "stop on"]
    assert "&lt;think&gt;↵\n" in text


def test_rows_have_views_that_work_without_a_script(parse: Parse) -> None:
    page = parse(tokens_page([explained(raw={"a": 1}), explained(roles=[])], "Tokens"))
    kinds = [
        attributes["class"] for tag, attributes in page.tags if tag == "input" and attributes.get("type") == "radio"
    ]
    assert kinds == ["tab tokens", "tab turns", "tab raw", "tab tokens"]
    assert [a["name"] for a in page.find("input", type="radio")] == ["view-0"] * 3 + ["view-1"]
    assert len([a for a in page.find("input", type="radio") if "checked" in a]) == 2
    assert all("hidden" in bar for bar in page.find("div", class_="order tools")), (
        "it would do nothing without a script"
    )
    assert page.find("div", class_="pane raw") and "@supports not selector(:has(a))" in tokens_page([], "")


def test_what_becomes_of_a_row_is_told(parse: Parse) -> None:
    text = tokens_page(
        [explained(fate="dropped", why="no token <of> it is trained"), explained()], "Tokens", note="dropped"
    )
    page = parse(text)
    assert "Not trained: no token <of> it is trained." in page.text and "<of>" not in text
    assert [a["data-fate"] for a in page.find("details", class_="row")] == ["dropped", ""]
    assert [a["data-only"] for a in page.find("button") if "data-only" in a] == ["", "dropped"]
