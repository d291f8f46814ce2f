"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from newt.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (950, "950"),
        (999.6, "1k"),
        (12_345, "12.3k"),
        (4_560_000, "4.56M"),
        (7.62e9, "7.62B"),
        (0, "0"),
        (-1500, "-1.5k"),
    ],
)
def test_compact(value: float, text: str) -> None:
    assert numbers.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.31312, "1.313"), (2e-4, "2e-4"), (1.234e-5, "1.23e-5"), (12_345, "12,345"), (100, "100")],
)
def test_short(value: float, text: str) -> None:
    assert numbers.short(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (38, 100, "38 %"),
        (18, 1000, "1.8 %"),
        (1, 1e6, "<0.1 %"),
        (9999, 10_000, ">99 %"),
        (5, 5, "100 %"),
        (0, 9, "0 %"),
    ],
)
def test_percent(part: float, whole: float, text: str) -> None:
    assert numbers.percent(part, whole) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42, "42 s"), (200, "3 min 20 s"), (4320, "1 h 12 min"), (3600, "1 h"), (97_200, "1 d 3 h"), (59.7, "1 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "12", True, [1]])
def test_what_is_no_number_is_a_dash(value: object) -> None:
    assert {f(value) for f in (numbers.count, numbers.compact, numbers.short, numbers.duration)} == {"–"}
    assert numbers.percent(value, 3) == numbers.percent(3, value) == numbers.percent(1, 0) == "–"
