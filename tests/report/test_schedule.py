"""The learning rate as text and as pictures."""

import xml.etree.ElementTree as ElementTree

import pytest

from newt.report import schedule
from newt.support.errors import NewtError

RISE = [n / 100 for n in range(101)]


def test_a_rising_line_is_a_triangle():
    lines = schedule.render({"all": RISE}, width=20).splitlines()
    blocks = lines[1:11]
    assert lines[0] == "all:"
    heights = [sum(len(line) > column and line[column] == "█" for line in blocks) for column in range(20)]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (0, 9)
    assert len(lines[11]) == 20
    assert lines[11].endswith("step 100")


def test_groups_of_one_shape_share_a_curve():
    text = schedule.render({"a": RISE, "b": [2 * rate for rate in RISE], "c": RISE[::-1]})
    assert "a, b:" in text
    assert text.count("step 0") == 2 + 1  # two curves, and the step at which c is highest
    assert "b: begins at 0, highest 2 at step 100, ends at 2" in text


@pytest.mark.parametrize("rates", [[1.0], [0.0], [0.0, 0.0]])
def test_short_and_flat_runs(rates, tmp_path):
    assert "all:" in schedule.render({"all": rates})
    schedule.write({"all": rates}, tmp_path / "a.svg")
    ElementTree.parse(tmp_path / "a.svg")


def test_names_are_escaped(tmp_path):
    schedule.write({"<b>&": RISE}, tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert "<b>&" in [element.text for element in root]
    schedule.write({"<b>&": RISE}, tmp_path / "a.html")
    assert "<b>&<" not in (tmp_path / "a.html").read_text()


def test_a_png_needs_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "find_spec", lambda name: None)
    with pytest.raises(NewtError, match=r"a \.png needs the package matplotlib"):
        schedule.write({"all": RISE}, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
