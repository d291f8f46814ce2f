"""Charts: round ticks, no lost spike, nothing that cannot be drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newt.report.charts import (
    Series,
    axis,
    downsample,
    histogram,
    line_chart,
    log_ticks,
    smooth,
    tick_labels,
    ticks,
)

Parse = Callable[[str], Any]
VALUES = st.floats(-1e12, 1e12, allow_nan=False)


def test_ticks_are_the_round_numbers_that_a_person_would_choose() -> None:
    assert ticks(0, 60, 6) == [0, 10, 20, 30, 40, 50, 60]
    assert ticks(0.97, 2.71, 4) == [1.0, 1.5, 2.0, 2.5]
    assert ticks(0, 2e-4, 4) == [0, 5e-5, 1e-4, 1.5e-4, 2e-4]
    assert ticks(0, 0.7, 7) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert ticks(-12, 12, 5) == [-10, -5, 0, 5, 10]
    assert ticks(0, 20_000, 4) == [0, 5000, 10_000, 15_000, 20_000]


@given(VALUES, VALUES, st.integers(1, 12))
def test_ticks_are_inside_even_and_few(low: float, high: float, count: int) -> None:
    found = ticks(low, high, count)
    if not low < high:
        assert found == []
        return
    assert len(found) <= count + 1
    span = high - low
    assert all(low - 1e-9 * span <= v <= high + 1e-9 * span for v in found)
    gaps = [b - a for a, b in pairwise(found)]
    size = max(abs(low), abs(high))
    assert all(gap > 0 for gap in gaps)
    assert all(math.isclose(gap, gaps[0], rel_tol=1e-6, abs_tol=size * 1e-14) for gap in gaps)
    if len(gaps) > 0 and gaps[0] > size * 1e-6:
        mantissa = gaps[0] / 10 ** math.floor(math.log10(gaps[0]) + 1e-9)
        assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-4


@pytest.mark.parametrize("ends", [(0, math.nan), (math.inf, 1), (1, 1), (3, 2), (1e300, math.inf), (5e-324, 1e-323)])
def test_there_are_no_ticks_without_a_range(ends: tuple[float, float]) -> None:
    assert ticks(*ends) == []


@given(st.floats(1e-9, 1e9), st.floats(1.01, 1e9), st.integers(3, 8))
def test_log_ticks_are_inside_and_rise(low: float, ratio: float, count: int) -> None:
    found = log_ticks(low, low * ratio, count)
    assert all(low * (1 - 1e-6) <= v <= low * ratio * (1 + 1e-6) for v in found)
    assert all(a < b for a, b in pairwise(found))
    assert len(found) <= count + 2


def test_log_ticks_are_powers_of_ten_when_there_are_enough() -> None:
    assert log_ticks(0.5, 2000) == [1, 10, 100, 1000]
    assert log_ticks(0.4, 12) == [0.5, 1, 5, 10]
    assert log_ticks(0, 10) == []


def test_labels_of_one_axis_have_the_same_decimals() -> None:
    assert tick_labels([1.0, 1.5, 2.0]) == ["1.0", "1.5", "2.0"]
    assert tick_labels([0, 5e-5, 1e-4]) == ["0", "5e-5", "1e-4"]
    assert tick_labels([0, 5000, 10_000]) == ["0", "5k", "10k"]
    assert tick_labels([0, 500, 1000]) == ["0", "500", "1,000"]
    assert tick_labels([0.5, 1, 5, 10]) == ["0.5", "1", "5", "10"]
    assert tick_labels([0.96, 0.98, 1.0]) == ["0.96", "0.98", "1.00"]
    assert tick_labels([]) == []


def test_downsampling_keeps_the_ends_and_every_spike() -> None:
    points = [(float(x), 1.0) for x in range(20_000)]
    points[7001], points[13_003] = (7001.0, 50.0), (13_003.0, -50.0)
    kept = downsample(points)
    assert len(kept) <= 1000
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert (7001.0, 50.0) in kept and (13_003.0, -50.0) in kept
    assert kept == sorted(kept)


def test_downsampling_keeps_a_gap() -> None:
    points = [(float(x), math.nan if 4000 <= x < 6000 else 1.0) for x in range(10_000)]
    assert any(math.isnan(y) for _, y in downsample(points))


def test_the_running_mean_is_centred_and_leaves_out_what_is_not_finite() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 6.0), (4.0, 10.0)]
    assert smooth(points, 3) == [(0.0, 1.5), (1.0, 3.0), (3.0, 6.0), (4.0, 8.0)]


def test_an_axis_has_room_for_a_constant() -> None:
    flat = axis([3.0, 3.0])
    assert flat.low < 3 < flat.high
    assert axis([3.0], zero=True).low == 0
    assert axis([0.0], zero=True).high > 0
    assert axis([math.nan, math.inf]) == axis([])
    assert axis([0.0, 10.0, 1000.0], log=True).low > 5


def test_a_curve_breaks_where_the_loss_is_not_finite(parse: Parse) -> None:
    points = [(1.0, 2.0), (2.0, 1.0), (3.0, math.nan), (4.0, 1.0), (5.0, math.inf), (6.0, 0.5), (7.0, 0.4)]
    chart = parse(line_chart([Series("train", points)], title="Loss"))
    (path,) = chart.find("path")
    assert path["d"].count("M") == 3 and path["d"].count("L") == 2
    assert "nan" not in path["d"] and "inf" not in path["d"]
    (svg,) = chart.find("svg", class_="plot")
    assert json.loads(svg["data-chart"])["series"][0]["points"] == [[1, 2], [2, 1], [4, 1], [6, 0.5], [7, 0.4]]


def test_points_are_where_their_values_are(parse: Parse) -> None:
    chart = parse(line_chart([Series("eval", [(0, 0.0), (50, 5.0), (100, 10.0)], "marked")], title="x", zero=True))
    places = [(float(c["cx"].rstrip("%")), float(c["cy"].rstrip("%"))) for c in chart.find("circle")]
    assert places == [
        (0, 100),
        (50, pytest.approx(100 - 100 * 5 / 10.8, abs=0.01)),
        (100, pytest.approx(7.407, abs=0.01)),
    ]


@pytest.mark.parametrize("points", [[], [(5.0, math.nan)]])
def test_a_chart_of_nothing_says_so(points: list[tuple[float, float]], parse: Parse) -> None:
    assert "Nothing was logged." in parse(line_chart([Series("train", points)], title="Loss")).text


def test_one_point_is_a_dot(parse: Parse) -> None:
    chart = parse(line_chart([Series("train", [(3.0, 1.0)])], title="Loss"))
    assert len(chart.find("circle")) == 1


def test_names_are_escaped(parse: Parse) -> None:
    chart = line_chart([Series("<b>a", [(0, 1.0), (1, 2.0)]), Series('"c', [(0, 1.0)])], title="<script>", unit="<u>")
    page = parse(chart)
    assert not page.find("script") and not page.find("u") and len(page.find("b")) == 1
    assert "<b>a" in page.text


def test_bars_have_the_height_of_their_counts(parse: Parse) -> None:
    chart = parse(histogram([0, 10, 20, 40], [5, 10, 0], title="Lengths", unit="tokens", marker=(30, "limit")))
    bars = chart.find("rect", class_="bar")
    assert [float(b["width"].rstrip("%")) for b in bars] == [25, 25, 50]
    heights = [float(b["height"].rstrip("%")) for b in bars]
    assert heights[0] == pytest.approx(heights[1] / 2, abs=0.01) and heights[2] == 0
    assert "10 to 20 tokens: 10 rows" in chart.text and "limit" in chart.text


@pytest.mark.parametrize(
    ("edges", "counts"), [([], []), ([0, 1], []), ([0, 1], [0]), ([1, 0], [3]), ([0, 1], [math.nan]), ([0, 1, 2], [1])]
)
def test_a_histogram_of_nothing_says_so(edges: list[float], counts: list[float], parse: Parse) -> None:
    assert "Nothing was counted." in parse(histogram(edges, counts, title="Lengths")).text
