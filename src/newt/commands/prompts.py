"""How ``newt inference`` turns what a user writes into the text that the model reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]

PROMPTERS = {
    "alpacaprompter": "alpaca",
    "unpromptedprompter": "alpaca_chat.load_no_prompt",
    "jeopardyprompter": "jeopardy",
    "completionprompter": "completion",
    "gpteacherprompter": "gpteacher",
    "summarizetldrprompter": "summarizetldr",
    "reflectalpacaprompter": "reflection",
}
"""Class name of an older prompter, lower case -> the dataset type that writes the same."""


def is_raw(name: str) -> bool:
    """Whether a ``--prompter`` asks for the text as it is."""
    return name.strip().lower() in ("none", "null", "raw", "")


def prompter(run: Any, name: str) -> Callable[[str], str]:
    """A function that writes a prompt as a dataset type does: ``alpaca``, ``AlpacaPrompter`` ...

    Args:
        run: a checked run, whose settings the format reads.
        name: a dataset type, or the class name of a prompter.

    Raises:
        NewtError: there is no such prompt style.
        UnsupportedError: it is not built yet.
    """
    from newt.layouts import format_of
    from newt.support.errors import DataError, NewtError, UnsupportedError

    kind = PROMPTERS.get(name.strip().lower(), name.strip())
    fmt = format_of(kind, "supervised")
    if fmt is None or kind not in (fmt.names or (fmt.name,)) or not (columns := _columns(fmt, kind, run)):
        styles = ", ".join(sorted(PROMPTERS.values()))
        raise NewtError(f"--prompter: there is no prompt style {name!r}. For example: {styles}, None (the text alone).")
    if fmt.Settings.is_coming("type"):
        raise UnsupportedError(f"--prompter: {kind} is known, but Newt does not support it yet.")
    made = fmt(fmt.Settings(path="-", type=kind), run.cfg)

    def write(prompt: str) -> str:
        try:
            segments = getattr(made({**dict.fromkeys(columns, ""), columns[0]: prompt}), "segments", None)
        except DataError:
            segments = None
        if segments is None:
            raise NewtError(f"--prompter: {kind} does not make a prompt of one text. Leave --prompter away.")
        return "".join(segment.text for segment in segments)

    return write


def _columns(fmt: Any, kind: str, run: Any) -> Sequence[str]:
    if fmt.Settings.is_coming("type"):
        return ("type",)
    return tuple(fmt(fmt.Settings(path="-", type=kind), run.cfg).columns())


def reads_conversations(run: Any) -> bool:
    """Whether the model was trained on conversations: by ``chat_template``, or by the first dataset's format."""
    from newt.config.core import Template

    first = next(iter(run.formats), None)
    plain = first is not None and first.rows == "supervised" and first.name != "chat_template"
    return bool(run.cfg[Template].chat_template) or not plain or run.method.name not in ("sft", "pretrain")
