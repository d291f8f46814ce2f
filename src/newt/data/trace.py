# ruff: noqa: D102 - the methods are those of str
"""Strings that remember which message they came from.

A ``Traced`` string is an ordinary ``str`` with spans: ``(begin, end, source, origin)`` says that the characters
``begin:end`` came from ``source``, starting at character ``origin`` of it (``-1``: rewritten, such as a number that
became JSON). The string methods that chat templates use keep the spans; a method that cannot map single characters
attributes its whole result. A span of no characters is an anchor: it keeps the place of an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, SupportsIndex


class Source(NamedTuple):
    """Where a piece of text came from.

    Attributes:
        message: index of the message.
        field: ``role``, ``content``, ``reasoning``, ``tool_calls`` or another key of the message.
        part: path below the field (``0.function.name``), empty for the field itself.
    """

    message: int
    field: str
    part: str = ""


Span = tuple[int, int, Source, int]


class Traced(str):
    """A string with provenance spans, in the order of their begin."""

    __slots__ = ("spans",)
    spans: tuple[Span, ...]

    def __new__(cls, text: object = "", spans: tuple[Span, ...] = ()) -> Traced:
        self = str.__new__(cls, text)
        self.spans = spans
        return self

    def __str__(self) -> str:
        return self  # str() of a template must not lose the spans

    def __add__(self, other: str) -> str:
        if not isinstance(other, str):
            return NotImplemented
        spans = self.spans
        if type(other) is Traced and other.spans:
            at = len(self)
            spans = (*spans, *[(b + at, e + at, source, origin) for b, e, source, origin in other.spans])
        return Traced(str.__add__(self, other), spans)

    def __radd__(self, other: str) -> str:
        if not isinstance(other, str):
            return NotImplemented
        at = len(other)
        shifted = tuple([(b + at, e + at, source, origin) for b, e, source, origin in self.spans])
        return Traced(str.__add__(other, self), shifted)

    def __mul__(self, times: SupportsIndex) -> str:
        return concat([self] * int(times))

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> str:
        return percent(self, values)

    def __rmod__(self, template: str) -> str:
        return percent(template, self)

    def __getitem__(self, index: SupportsIndex | slice) -> str:
        if isinstance(index, slice):
            begin, end, step = index.indices(len(self))
            if step == 1:
                return self._cut(begin, end)
            return concat([self[i] for i in range(begin, end, step)])
        if not hasattr(index, "__index__"):
            raise TypeError("string indices must be integers")
        at = index.__index__()
        at = at + len(self) if at < 0 else at
        if not 0 <= at < len(self):
            raise IndexError("string index out of range")
        return self._cut(at, at + 1)

    def __iter__(self) -> Iterator[str]:
        return iter([self._cut(i, i + 1) for i in range(len(self))])

    def _cut(self, begin: int, end: int, keep_lost: bool = False) -> str:
        """Characters ``begin:end``. With keep_lost, spans that were cut away leave an anchor at the edge."""
        text = str.__getitem__(self, slice(begin, end))
        end = begin + len(text)
        keep_lost = keep_lost or not text
        spans: list[Span] = []
        for b, e, source, origin in self.spans:
            low, high = max(b, begin), min(e, end)
            if low < high or (b == e and begin <= b <= end):
                spans.append((low - begin, high - begin, source, origin if origin < 0 else origin + low - b))
            elif keep_lost:
                at = min(max(b, begin), end)
                from_ = origin if origin < 0 else origin + max(0, min(at, e) - b)
                spans.append((at - begin, at - begin, source, from_))
        return Traced(text, tuple(spans)) if spans else text

    def strip(self, chars: str | None = None) -> str:
        kept = str.lstrip(self, chars)
        begin = len(self) - len(kept)
        return self._cut(begin, begin + len(kept.rstrip(chars)), True)

    def lstrip(self, chars: str | None = None) -> str:
        return self._cut(len(self) - len(str.lstrip(self, chars)), len(self), True)

    def rstrip(self, chars: str | None = None) -> str:
        return self._cut(0, len(str.rstrip(self, chars)), True)

    def removeprefix(self, prefix: str) -> str:
        return self._cut(len(prefix), len(self), True) if self.startswith(prefix) else self

    def removesuffix(self, suffix: str) -> str:
        return self._cut(0, len(self) - len(suffix), True) if suffix and self.endswith(suffix) else self

    def _pieces(self, texts: list[str], skip: int | None) -> list[str]:
        """The given pieces of this string, found from left to right with ``skip`` characters between them."""
        found, at = [], 0
        for text in texts:
            at = str.find(self, text, at) if skip is None else at
            found.append(self._cut(at, at + len(text)))
            at += len(text) + (skip or 0)
        return found

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(str.split(self, sep, maxsplit), None if sep is None else len(sep))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(str.rsplit(self, sep, maxsplit), None if sep is None else len(sep))

    def splitlines(self, keepends: bool = False) -> list[str]:
        whole = self._pieces(str.splitlines(self, True), 0)
        if keepends:
            return whole
        return [line[: len(bare)] for line, bare in zip(whole, str.splitlines(self), strict=True)]

    def partition(self, sep: str) -> tuple[str, str, str]:
        return self._parted(str.find(self, sep), sep) if sep in self else (self, "", "")

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        return self._parted(str.rfind(self, sep), sep) if sep in self else ("", "", self)

    def _parted(self, at: int, sep: str) -> tuple[str, str, str]:
        after = at + len(sep)
        return self._cut(0, at), self._cut(at, after), self._cut(after, len(self))

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        if not old:
            return self._derived(str.replace(self, old, new, count))
        if old not in self:
            return self
        pieces = Traced.split(self, old, count)
        kept: list[str] = [pieces[0]]
        at = len(pieces[0])
        for piece in pieces[1:]:
            kept += [self._written(new, at), piece]
            at += len(old) + len(piece)
        return concat(kept)

    def _written(self, new: str, at: int) -> str:
        """A replacement belongs to the text that it stands in."""
        if type(new) is Traced and new.spans:
            return new
        inside = next((source for b, e, source, _ in self.spans if b <= at < e), None)
        return new if inside is None else Traced(new, ((0, len(new), inside, -1),))

    def join(self, parts: Iterable[str]) -> str:
        between: list[str] = []
        for part in parts:
            if between:
                between.append(self)
            between.append(part)
        return concat(between)

    def _derived(self, text: str) -> str:
        """A rewritten form of this string: character by character if the length is the same."""
        if len(text) == len(self):
            return Traced(text, self.spans)
        return Traced(text, ((0, len(text), self.spans[0][2], -1),)) if self.spans else text

    def upper(self) -> str:
        return self._derived(str.upper(self))

    def lower(self) -> str:
        return self._derived(str.lower(self))

    def title(self) -> str:
        return self._derived(str.title(self))

    def capitalize(self) -> str:
        return self._derived(str.capitalize(self))

    def swapcase(self) -> str:
        return self._derived(str.swapcase(self))

    def casefold(self) -> str:
        return self._derived(str.casefold(self))

    def expandtabs(self, tabsize: SupportsIndex = 8) -> str:
        return self._derived(str.expandtabs(self, tabsize))

    def translate(self, table: Any) -> str:
        return self._derived(str.translate(self, table))

    def ljust(self, width: SupportsIndex, fillchar: str = " ") -> str:
        return self + str.ljust(self, width, fillchar)[len(self) :]

    def rjust(self, width: SupportsIndex, fillchar: str = " ") -> str:
        text = str.rjust(self, width, fillchar)
        return text[: len(text) - len(self)] + self

    def center(self, width: SupportsIndex, fillchar: str = " ") -> str:
        return self._derived(str.center(self, width, fillchar))

    def zfill(self, width: SupportsIndex) -> str:
        return self._derived(str.zfill(self, width))


class TracedDict(dict[str, Any]):
    """A dict of a message; ``tojson`` of it belongs to ``source``."""

    source: Source


class TracedList(list[Any]):
    """A list of a message; ``tojson`` of it belongs to ``source``."""

    source: Source


def concat(parts: Iterable[str]) -> str:
    """``"".join`` that keeps the spans; pieces of one source that lie next to each other become one span."""
    parts = parts if isinstance(parts, list) else list(parts)
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    text = "".join(parts)
    spans: list[Span] = []
    at = 0
    for part in parts:
        if type(part) is Traced:
            for b, e, source, origin in part.spans:
                if spans and b + at == spans[-1][1] and _continues(spans[-1], e - b, source, origin):
                    spans[-1] = (spans[-1][0], e + at, source, spans[-1][3])
                else:
                    spans.append((b + at, e + at, source, origin))
        at += len(part)
    return Traced(text, tuple(spans)) if spans else text


def _continues(last: Span, length: int, source: Source, origin: int) -> bool:
    begin, end, before, from_ = last
    return before == source and from_ >= 0 and length > 0 and origin == from_ + end - begin


def trace(value: Any, source: Source) -> Any:
    """A copy of a JSON value whose strings (also keys) and containers belong to ``source``.

    Anything that is not JSON becomes a text that names its type, because templates are foreign code.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        text = str.__str__(value) if type(value) is not str else value
        return Traced(text, ((0, len(text), source, 0),))
    if isinstance(value, Mapping):
        mapping = TracedDict(
            (trace(key, _below(source, f"{key}:key")), trace(item, _below(source, str(key))))
            for key, item in value.items()
        )
        mapping.source = source
        return mapping
    if isinstance(value, list | tuple):
        items = TracedList(trace(item, _below(source, str(i))) for i, item in enumerate(value))
        items.source = source
        return items
    if hasattr(value, "tolist"):  # numpy scalars and arrays of an Arrow reader
        return trace(value.tolist(), source)
    return f"<{type(value).__name__}>"


def _below(source: Source, name: str) -> Source:
    return Source(source.message, source.field, f"{source.part}.{name}" if source.part else name)


def owner(value: Any) -> Source | None:
    """The source of a value that a template built: its own, or that of what it holds if that is one message."""
    if isinstance(value, TracedDict | TracedList):
        return value.source
    if isinstance(value, Traced):
        return value.spans[0][2] if value.spans else None
    if isinstance(value, Mapping):
        inside = [owner(item) for item in value.values()]
    elif isinstance(value, list | tuple):
        inside = [owner(item) for item in value]
    else:
        return None
    known = [source for source in inside if source is not None]
    return known[0] if len({source.message for source in known}) == 1 else None


_CONVERSION = re.compile(r"%(?:\((?P<key>[^)]*)\))?[#0\- +]*(?:\d+)?(?:\.\d+)?(?P<kind>[a-zA-Z%])")


def percent(template: str, values: Any) -> str:
    """``template % values`` that keeps the spans of plain ``%s`` and attributes other conversions as a whole."""
    plain = str.__mod__(template, values)
    rest = list(values) if isinstance(values, tuple) else [values]
    pieces: list[str] = []
    at = 0
    for found in _CONVERSION.finditer(template):
        pieces.append(template[at : found.start()])
        at = found.end()
        if found["kind"] == "%":
            pieces.append("%")
        else:
            value = values[found["key"]] if found["key"] is not None else rest.pop(0)
            pieces.append(_converted(found.group(), found["key"], value))
    pieces.append(template[at:])
    traced = concat(pieces)
    return traced if traced == plain else plain


def _converted(conversion: str, key: str | None, value: Any) -> str:
    if conversion[-2:] in ("%s", ")s"):
        return str(value)
    text = conversion % ({key: value} if key is not None else (value,))
    source = owner(value)
    return text if source is None else Traced(text, ((0, len(text), source, -1),))


def spans_of(text: str) -> tuple[Span, ...]:
    """The spans of a string, none for a plain one."""
    return text.spans if type(text) is Traced else ()
