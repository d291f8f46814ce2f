"""Questions: multiple choice, about a text, and summaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from newt.data.instructions import CHAT, RAW, Instructions, Layout, Row, Single, styled, text_of
from newt.support.errors import DataError

_EXPLAIN = "Choose the answer that best answers the question. Explain your reasoning.\n"
_CONCISE = "Choose the answer that best answers the question. Be concise in your response.\n\n"
_CONTEXT = "Use the following contextual information to concisely answer the question.\n"
_NOT_IN_CONTEXT = (
    "The context provided does not contain any information about your inquiry. "
    "Therefore, I'm unable to answer your question based on the given context."
)


def _choice(row: Row) -> Single:
    """The choices as a list with bullets; the answer is the solution, or else the explanation."""
    choices: Any = row.get("choices")
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"choices must be a list of texts, it is {choices!r}")
    answer = text_of(row, "solution" if row.get("solution") is not None else "explanation")
    return Single(text_of(row, "question"), answer, "\n".join(f'- "{choice}"' for choice in choices))


def _summary(row: Row) -> Single:
    article = text_of(row, "article")
    return Single(f"Summarize the following article as a TL;DR.\n{article}", text_of(row, "summary"))


def _about_text(row: Row) -> Single:
    return Single(f"{text_of(row, 'article')}\n===\n{text_of(row, 'question')}", text_of(row, "answer"))


def _about_context(row: Row) -> Single:
    prompt = f"Context: {text_of(row, 'context')}\nQuestion: {text_of(row, 'question')}\n"
    return Single(prompt, f"Answer: {text_of(row, 'answer')}")


def _unanswerable(row: Row) -> Single:
    return Single(f"{text_of(row, 'article')}\n===\n{text_of(row, 'unanswerable_question')}", _NOT_IN_CONTEXT)


_STYLED = {
    "explainchoice": Layout(_choice, ("question", "choices"), system=_EXPLAIN),
    "concisechoice": Layout(_choice, ("question", "choices"), replace(CHAT, system="{system}"), _CONCISE),
    "summarizetldr": Layout(_summary, ("article", "summary"), CHAT),
}
_TEXT = Layout(_about_text, ("article", "question", "answer"), CHAT, _CONTEXT)


class Questions(Instructions):
    """A question, perhaps with a text or with choices, and the answer."""

    name = "context_qa"
    layouts: ClassVar[Mapping[str, Layout]] = {
        **_STYLED,
        "context_qa": _TEXT,
        "context_qa.load": _TEXT,
        "context_qa.load_v2": Layout(_about_context, ("context", "question", "answer"), RAW),
        "context_qa.load_404": Layout(_unanswerable, ("article", "unanswerable_question"), CHAT, _CONTEXT),
    }
    names = (*layouts, *styled(_STYLED))
