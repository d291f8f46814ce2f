"""The picture of the packed sequences."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from newt.report.bins import bars, bins_figure, told
from newt.report.terminal import show_packing


@dataclass(frozen=True)
class Packed:
    capacity: int = 100
    rows: int = 5
    tokens: int = 298
    bins: int = 4
    first: list[Any] = field(
        default_factory=lambda: [
            [("a<b>.jsonl", 7, 60), ("b.jsonl", 1, 40)],
            [("a<b>.jsonl", 2, 99)],
            [("b.jsonl", 0, 50)],
        ]
    )


def test_widths_are_lengths(parse: Callable[[str], Any]) -> None:
    text = bins_figure(Packed())
    page = parse(text)
    assert [(a["x"], a["width"]) for a in page.find("rect")] == [
        ("0", "60"),
        ("60", "40"),
        ("0", "99"),
        ("99", "1"),
        ("0", "50"),
        ("50", "50"),
    ]
    assert [a["viewbox"] for a in page.find("svg")] == ["0 0 100 1"] * 3
    assert "a&lt;b&gt;.jsonl row 7: 60 tokens" in text and "50 tokens of padding" in text
    assert "1 more sequences are not shown here." in page.text


def test_the_share_is_rounded_down() -> None:
    assert told(Packed(tokens=399)) == "5 rows fill 4 sequences of 100 tokens, 99.7 % full."
    assert "99.9 %" in told(Packed(capacity=100_000, tokens=399_999)) and "100.0 %" in told(Packed(tokens=400))


def test_bars_of_characters() -> None:
    lines = bars(Packed(), 64)
    assert all(len(line) <= 64 for line in lines)
    shapes = [re.search(r"[█▓·]+", line)[0] for line in lines]  # type: ignore[index]
    assert shapes == ["█" * 24 + "▓" * 16, "█" * 40, "█" * 20 + "·" * 20]
    assert [line.split()[-4:] for line in lines] == [
        ["100.0", "%", "2", "rows"],
        ["99.0", "%", "1", "row"],
        ["50.0", "%", "1", "row"],
    ]
    assert show_packing(Packed(), width=64).splitlines()[-1] == "1 more sequences are not shown."
