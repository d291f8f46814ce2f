"""Changes in the text of a YAML file that leave everything else as it is: comments, order, quotes, blank lines."""

from __future__ import annotations

from collections.abc import Iterator

import yaml


class CannotEditError(Exception):
    """This place cannot be changed without touching others; the message says why."""


class Document:
    """A YAML text whose top level is a mapping.

    Changes are collected, and made by :meth:`text`.

    Args:
        text: a valid document.
    """

    def __init__(self, text: str) -> None:
        self.source = text
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise CannotEditError("is not a mapping of keys to values")
        self.root = root
        self.changes: list[tuple[int, int, str]] = []

    def find(self, *path: str) -> tuple[yaml.ScalarNode, yaml.Node] | None:
        """Key and value of a dotted key as it was written; None if it is not there, or comes from a merge."""
        block: yaml.Node = self.root
        found = None
        for name in path:
            found = next((pair for pair in _pairs(block) if pair[0].value == name), None)
            if found is None:
                return None
            block = found[1]
        return found

    def line(self, *path: str) -> int:
        """Line of a key, from 1; 0 if it is not there."""
        found = self.find(*path)
        return found[0].start_mark.line + 1 if found else 0

    def rename(self, path: tuple[str, ...], name: str) -> None:
        """Give a key another name."""
        key, _ = self._pair(path)
        self.changes.append((key.start_mark.index, key.end_mark.index, name))

    def set_value(self, path: tuple[str, ...], text: str) -> None:
        """Write another scalar where a scalar is.

        Raises:
            CannotEditError: the value is a list or a mapping, or an anchor, which others may use.
        """
        _, value = self._pair(path)
        if not isinstance(value, yaml.ScalarNode):
            raise CannotEditError("its value is not a single word or number")
        written = self.source[value.start_mark.index : value.end_mark.index]
        if written[:1] in ("&", "*", "!", "|", ">") or self._is_alias(path):
            raise CannotEditError("its value has an anchor, an alias or a tag")
        self.changes.append((value.start_mark.index, value.end_mark.index, text if written else f" {text}"))

    def add_below(self, path: tuple[str, ...], line: str) -> None:
        """Add a line of its own below a key with a scalar value, at the same indentation.

        Raises:
            CannotEditError: the mapping is written in braces.
        """
        key, value = self._pair(path)
        self._check_block(path)
        _, end = self._lines_of(key, value)
        margin = self.source[self.source.rfind("\n", 0, key.start_mark.index) + 1 : key.start_mark.index]
        newline = "\r\n" if "\r\n" in self.source else "\n"
        first = "" if end == 0 or self.source[end - 1 : end] == "\n" else newline
        self.changes.append((end, end, f"{first}{margin}{line}{newline if not first else ''}"))

    def remove(self, path: tuple[str, ...]) -> None:
        """Remove the lines of a key and its value, with a comment behind them.

        Raises:
            CannotEditError: the mapping is written in braces, or the key begins a list item.
        """
        key, value = self._pair(path)
        self._check_block(path)
        begin, end = self._lines_of(key, value)
        if self.source[begin : key.start_mark.index].strip():
            raise CannotEditError("something else is written on its line")
        self.changes.append((begin, end, ""))

    def text(self) -> str:
        """The document with all changes."""
        result = self.source
        for begin, end, new in sorted(self.changes, reverse=True):
            result = result[:begin] + new + result[end:]
        return result

    def _pair(self, path: tuple[str, ...]) -> tuple[yaml.ScalarNode, yaml.Node]:
        found = self.find(*path)
        if found is None:
            raise CannotEditError("it comes from a merge (<<)")
        return found

    def _is_alias(self, path: tuple[str, ...]) -> bool:
        """An alias gives the node of its anchor, which stands elsewhere."""
        key, value = self._pair(path)
        return value.start_mark.index < key.start_mark.index

    def _check_block(self, path: tuple[str, ...]) -> None:
        parent = self.root if len(path) == 1 else self._pair(path[:-1])[1]
        if getattr(parent, "flow_style", False):
            raise CannotEditError("it is written in braces")

    def _lines_of(self, key: yaml.ScalarNode, value: yaml.Node) -> tuple[int, int]:
        """First index of the key's line, and first index of the line after the value."""
        begin = self.source.rfind("\n", 0, key.start_mark.index) + 1
        last = max(_ends(value), default=0)
        last = max(last if last > key.end_mark.index else 0, key.end_mark.index)
        # A literal block ends at the start of the line after it.
        if last and self.source[last - 1] == "\n":
            return begin, last
        end = self.source.find("\n", last)
        return begin, len(self.source) if end < 0 else end + 1


def _pairs(node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            yield key, value


def _ends(node: yaml.Node) -> Iterator[int]:
    """Where the written parts of a value end; a block collection's own end mark lies behind what follows it."""
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False) or not node.value:
        yield node.end_mark.index
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.end_mark.index
            yield from _ends(value)
    else:
        for item in node.value:
            yield from _ends(item)
