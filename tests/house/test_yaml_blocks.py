"""Every config that a user can copy from the examples or the pages is right."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from newt.commands.shared import find_problems

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "examples").rglob("*.md"))
BLOCK = re.compile(r"^```yaml[ \t]*([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> list[Path]:
    return sorted((ROOT / "examples").rglob("*.yml")) + sorted((ROOT / "examples").rglob("*.yaml"))


def blocks() -> Iterator[tuple[str, str]]:
    """Place and text of the YAML blocks that are whole configs."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            mark, body = found.groups()
            assert mark in ("", "fragment"), f"{page}: write ```yaml or ```yaml fragment, not ```yaml {mark}"
            if not mark:
                yield f"{page.relative_to(ROOT)}:{text[: found.start()].count(chr(10)) + 1}", body


@pytest.mark.parametrize("path", examples(), ids=lambda path: str(path.relative_to(ROOT)))
def test_an_example_is_right(path: Path) -> None:
    _, problems = find_problems(path, facts=False)
    assert [str(problem) for problem in problems] == []


@pytest.mark.parametrize(("place", "text"), [pytest.param(*block, id=block[0]) for block in blocks()])
def test_a_config_in_the_pages_is_right(place: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    _, problems = find_problems(path, facts=False)
    assert [str(problem) for problem in problems] == [], place
