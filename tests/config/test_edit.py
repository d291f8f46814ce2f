"""Edits by position."""

from __future__ import annotations

import pytest

from newt.config.edit import CannotEditError, Document

TEXT = """\
a: 1 # one
b:
  c: x
  d: [1,
      2]
# about e
e: |
  text
  more

f: &anchor word
g: *anchor
h: {i: 1}
"""


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        (("a",), TEXT.removeprefix("a: 1 # one\n")),
        (("b",), TEXT.replace("b:\n  c: x\n  d: [1,\n      2]\n", "")),
        (("b", "c"), TEXT.replace("  c: x\n", "")),
        (("b", "d"), TEXT.replace("  d: [1,\n      2]\n", "")),
        (("f",), TEXT.replace("f: &anchor word\n", "")),
        (("h",), TEXT.replace("h: {i: 1}\n", "")),
    ],
)
def test_remove(path, rest):
    document = Document(TEXT)
    document.remove(path)
    assert document.text() == rest


def test_remove_a_block_of_text():
    document = Document("e: |\n  text\n  more\nf: 1\n")
    document.remove(("e",))
    assert document.text() == "f: 1\n"


def test_several_changes_at_once():
    document = Document(TEXT)
    document.rename(("b", "c"), "cc")
    document.set_value(("b", "c"), "yy")
    document.add_below(("b", "c"), "new: 3")
    document.remove(("a",))
    assert document.text().startswith("b:\n  cc: yy\n  new: 3\n  d: [1,\n")


def test_an_empty_value_and_a_missing_last_newline():
    document = Document("a:\nb: 1")
    document.set_value(("a",), "5")
    document.add_below(("b",), "c: 2")
    assert document.text() == "a: 5\nb: 1\nc: 2"


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        ("set_value", (("b",), "1")),
        ("set_value", (("f",), "1")),
        ("set_value", (("g",), "1")),
        ("set_value", (("e",), "1")),
        ("remove", (("h", "i"),)),
        ("add_below", (("h", "i"), "j: 2")),
        ("rename", (("z",), "y")),
    ],
)
def test_places_that_cannot_be_edited(step, arguments):
    document = Document(TEXT)
    with pytest.raises(CannotEditError):
        getattr(document, step)(*arguments)
    assert document.text() == TEXT


def test_lines():
    document = Document(TEXT)
    assert (document.line("e"), document.line("b", "d"), document.line("z")) == (7, 4, 0)
    with pytest.raises(CannotEditError):
        Document("- a\n")
