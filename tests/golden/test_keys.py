"""The YAML keys are an interface: one that goes away or changes its name must be noticed."""

from pathlib import Path

from newt.registry import sections

SNAPSHOT = Path(__file__).parent / "keys.txt"


def test_the_list_of_keys_is_the_known_one():
    keys = sorted(key for section in sections() for key in section.model_fields)
    assert keys == SNAPSHOT.read_text().split(), "if this is meant, change tests/golden/keys.txt and the CHANGELOG"
