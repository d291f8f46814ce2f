"""Text of a dataset made harmless and visible: control characters get a sign."""

from __future__ import annotations

import unicodedata


def visible(text: str) -> str:
    """The text with its control characters and direction marks made visible; newlines and tabs stay.

    A dataset could otherwise move a terminal's cursor or turn a line around.
    """
    if text.isprintable():
        return text
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char in "\n\t" or char.isprintable():
        return char
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    # Joiners belong to emoji and to several scripts; other invisible characters are named by their code.
    if code in (0x200C, 0x200D) or unicodedata.category(char) == "Zs":
        return char
    return f"\\u{code:04x}"
