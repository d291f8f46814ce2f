"""Steps from a row's columns to messages that a chat template can read. Free of torch and numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from newt.support.errors import DataError

Flags = tuple[tuple[int, int, bool], ...]
"""Character spans (begin, end, train) of a text; ends are exclusive."""

_THINKING_TAGS = (
    ("<think>", "</think>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
_TEXT_KEYS = ("text", "content", "value")
_SOLUTION_TAGS = ("<|begin_of_solution|>", "<|end_of_solution|>")


def without_null(value: Any) -> Any:
    """The value without null entries of its mappings: Arrow fills missing keys with null."""
    if isinstance(value, Mapping):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_null(item) for item in value]
    return value


def list_of_objects(value: Any, name: str) -> list[dict[str, Any]]:
    """A list of objects, or the JSON text of one.

    Raises:
        DataError: it is neither.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DataError(f"{name} is a string but not JSON: {error}") from error
    if not isinstance(value, list | tuple):
        raise DataError(f"{name} must be a list, it is {_kind(value)}")
    for i, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise DataError(f"{name}[{i}] must be an object, it is {_kind(item)}")
    return [without_null(item) for item in value]


def _kind(value: Any) -> str:
    for kind, name in ((str, "a text"), (Mapping, "an object"), (list, "a list"), (type(None), "null")):
        if isinstance(value, kind):
            return name
    return repr(value)


def parsed_tools(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Tools with ``function.parameters`` as an object, None if there are none."""
    parsed = []
    for tool in tools:
        function = tool.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("parameters"), str):
            parameters = _json(function["parameters"], f"parameters of the tool {function.get('name', '?')}")
            tool = {**tool, "function": {**function, "parameters": parameters}}
        parsed.append(tool)
    return parsed or None


def parsed_calls(calls: Any) -> list[dict[str, Any]]:
    """Tool calls with ``function.arguments`` as an object."""
    parsed = []
    for call in list_of_objects(calls, "tool_calls"):
        function = call.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
            arguments = _json(function["arguments"], f"arguments of the tool call {function.get('name', '?')}")
            call = {**call, "function": {**function, "arguments": arguments}}
        parsed.append(call)
    return parsed


def _json(text: str, what: str) -> Any:
    try:
        return without_null(json.loads(text)) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise DataError(f"the {what} are not JSON: {error}") from error


class Parts(NamedTuple):
    """A content that was given in parts.

    Attributes:
        content: one text, or the parts themselves where some of them are not text (images ...).
        flags: training flags of the parts, empty if no part has one.
        open_ends: numbers of parts that end in a blank before a part with another flag.
    """

    content: Any
    flags: Flags
    open_ends: tuple[int, ...]


def joined(parts: Sequence[Any]) -> Parts:
    """Join text parts and collect their ``train`` or ``weight`` flags.

    Raises:
        DataError: a part is neither text nor an object, or a weight is neither 0 nor 1.
    """
    texts: list[str] = []
    flags: list[bool | None] = []
    for i, part in enumerate(parts):
        if not isinstance(part, str | Mapping):
            raise DataError(f"content[{i}] must be a text or an object, it is {_kind(part)}")
        text = part if isinstance(part, str) else next((part[k] for k in _TEXT_KEYS if k in part), None)
        if not isinstance(text, str):
            return Parts(list(parts), (), ())
        texts.append(text)
        flags.append(None if isinstance(part, str) else _flag(part))
    if all(flag is None for flag in flags):
        return Parts("".join(texts), (), ())
    spans: list[tuple[int, int, bool]] = []
    open_ends = []
    at = 0
    for i, (text, flag) in enumerate(zip(texts, flags, strict=True)):
        train = flag is not False
        if spans and spans[-1][2] != train and texts[i - 1].endswith((" ", "\t")):
            open_ends.append(i - 1)
        spans.append((at, at + len(text), train))
        at += len(text)
    return Parts("".join(texts), tuple(spans), tuple(open_ends))


def _flag(part: Mapping[str, Any]) -> bool | None:
    if "train" in part:
        if not isinstance(part["train"], bool):
            raise DataError(f"train of a content part must be true or false, it is {part['train']!r}")
        return part["train"]
    if "weight" in part:
        if part["weight"] not in (0, 1):
            raise DataError(f"weight of a content part must be 0 or 1, it is {part['weight']!r}")
        return bool(part["weight"])
    return None


def detail_flags(detail: Any, content: Any) -> Flags:
    """Spans of ``begin_offset`` to ``end_offset`` (inclusive) as flags.

    Raises:
        DataError: they do not fit the content.
    """
    if not isinstance(content, str):
        raise DataError("training details need a content that is a text")
    spans = []
    for item in list_of_objects(detail, "training detail"):
        begin, end, train = item.get("begin_offset"), item.get("end_offset"), item.get("train")
        if type(begin) is not int or type(end) is not int or not isinstance(train, bool):
            raise DataError(f"a training detail needs begin_offset, end_offset and train, it is {item}")
        if not 0 <= begin <= end < len(content):
            raise DataError(f"training detail {begin}..{end} is outside of the content (0..{len(content) - 1})")
        spans.append((begin, end + 1, train))
    spans.sort()
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            raise DataError(f"training details overlap at character {after[0]}")
    return tuple(spans)


def split_thinking(content: str) -> tuple[str, str] | None:
    """Reasoning and answer of a content that begins with reasoning in tags; None if it does not."""
    for opening, closing in _THINKING_TAGS:
        before, found, rest = content.partition(opening)
        thinking, closed, answer = rest.partition(closing)
        if not found or not closed or before.strip():
            continue
        answer = answer.lstrip()
        opening, closing = _SOLUTION_TAGS
        if answer.startswith(opening) and answer.rstrip().endswith(closing):
            answer = answer.rstrip()[len(opening) : -len(closing)].strip()
        return thinking.strip(), answer
    return None
