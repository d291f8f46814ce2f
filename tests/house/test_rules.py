"""The house rules find what they should, and find nothing in this repository."""

from pathlib import Path

import check_house
import generate_docs
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small repository that breaks no rule."""
    (tmp_path / "src/newt/features").mkdir(parents=True)
    (tmp_path / "tests/features").mkdir(parents=True)
    (tmp_path / "src/newt/features/lora.py").write_text("def plan():\n    return 1\n")
    (tmp_path / "tests/features/test_lora.py").write_text("def test_plan():\n    assert True\n")
    (tmp_path / "README.md").write_text("# Newt\n```\nsrc/newt/\n└── features/  toggles\n```\n")
    return tmp_path


@pytest.mark.parametrize("rule", check_house.RULES, ids=lambda rule: rule.__name__)
def test_this_repository_breaks_no_rule(rule: check_house.Rule) -> None:
    assert list(rule(ROOT)) == []


@pytest.mark.parametrize("rule", check_house.RULES, ids=lambda rule: rule.__name__)
def test_a_tidy_house_breaks_no_rule(rule: check_house.Rule, house: Path) -> None:
    assert list(rule(house)) == []


def test_a_long_file_is_found_and_a_kernel_may_be_longer(house: Path) -> None:
    long = "x = 1\n" * 401
    (house / "src/newt/features/long.py").write_text(long)
    (house / "src/newt/kernels").mkdir()
    (house / "src/newt/kernels/long.py").write_text(long)
    assert list(check_house.sizes(house)) == ["src/newt/features/long.py: 401 lines, at most 400"]


def test_a_long_function_is_found_with_its_place(house: Path) -> None:
    (house / "src/newt/features/long.py").write_text("y = 1\n\n\ndef f():\n" + "    x = 1\n" * 60)
    assert list(check_house.sizes(house)) == ["src/newt/features/long.py:4: f has 61 lines, at most 60"]


def test_a_part_without_its_own_test_is_found(house: Path) -> None:
    (house / "src/newt/features/packing.py").write_text("")
    expected = "src/newt/features/packing.py: has no tests/features/test_packing.py"
    assert list(check_house.mirrored_tests(house)) == [expected]


def test_a_room_without_tests_and_tests_without_a_room_are_found(house: Path) -> None:
    (house / "src/newt/losses").mkdir()
    (house / "src/newt/losses/causal.py").write_text("")
    (house / "tests/gone").mkdir()
    (house / "tests/gone/test_old.py").write_text("")
    assert list(check_house.mirrored_tests(house)) == [
        "src/newt/losses: has no tests in tests/losses",
        "tests/gone: there is no src/newt/gone",
    ]


def test_the_readme_names_the_rooms_that_are_there(house: Path) -> None:
    (house / "src/newt/cli.py").write_text("")
    readme = house / "README.md"
    readme.write_text(readme.read_text().replace("└──", "├── old.py  gone\n└──"))
    assert list(check_house.readme_tree(house)) == [
        "README.md: src/newt/cli.py is missing in the tree",
        "README.md: src/newt/old.py is in the tree but not on the disk",
    ]


def test_a_readme_without_a_tree_is_found(house: Path) -> None:
    (house / "README.md").write_text("# Newt\n")
    assert list(check_house.readme_tree(house)) == ["README.md: has no tree that begins with src/newt/"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("see https" + "://unknown.invalid/x", "unknown.invalid"),
        ("path = '" + "/ro" + "ot/model'", "a path of one machine"),
        ("fixed in issue " + "#12", "an issue number"),
        ("as DAT" + "-86 says", "a requirement number"),
        ("# TO" + "DO later", "an unfinished note"),
    ],
)
def test_words_that_do_not_belong_here_are_found(house: Path, line: str, what: str) -> None:
    (house / "notes.md").write_text(f"fine\n{line}\n")
    (found,) = check_house.words(house)
    assert found.startswith("notes.md:2:") and what in found


@pytest.mark.parametrize("line", ["quickstart/run/x", "UTF-8 and SHA-256", "https://arxiv.org/abs/2106.09685"])
def test_ordinary_words_are_not_found(house: Path, line: str) -> None:
    (house / "notes.md").write_text(line + "\n")
    assert list(check_house.words(house)) == []


def test_a_dead_link_is_found(house: Path) -> None:
    (house / "notes.md").write_text("[readme](README.md) [gone](docs/gone.md) [part](README.md#newt)\n")
    assert list(check_house.links(house)) == ["notes.md: links to docs/gone.md, which is not there"]


def test_the_generated_pages_are_up_to_date() -> None:
    pages = {"config-reference.md": generate_docs.reference(), "coverage.md": generate_docs.coverage()}
    stale = [name for name, text in pages.items() if (ROOT / "docs" / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run make docs"
