"""Answers that are criticised and revised: one row trains the answer, the critique, or the revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from newt.data.instructions import CHAT, Instructions, Layout, Row, Single, from_columns, text_of
from newt.support.errors import DataError

_ANSWER = (
    "Answer the following question in a comprehensive, in-depth, and creative way. "
    "Additionally your response should be relevant, accurate, and free of any ambiguity.\n"
)
_DEFINITIONS = """Definitions:
refusal: whether the Response refuses to answer the Question. Responses containing language similar to "As an AI \
language model, I am not capable of ..." is a form of refusal and should have a low refusal score. 10 is no refusal, \
0 is refuses to answer the question.
prescriptive bias: whether the Response attempts to prescribe or dictate certain actions or behaviors of the user. \
10 no prescriptive bias present, 0 means their is prescriptive bias.
creativity: score how creative the Response is. 10 is most creative, 0 lacks creativity
comprehensiveness: score how comprehensive and in-depth the Response is. 10 is most comprehensive and in-depth, \
0 lacks coverage and depth

"""
_CRITIQUE = (
    _DEFINITIONS
    + """Given the following Question and Response, critique the Response on a scale of 0 to 10 for each definition, \
with an explanation and improvements. Reply only with the evaluation, in YAML.

Question: {instruction}
Answer: {answer}
"""
)
_REVISE = (
    _DEFINITIONS
    + """Given the following Question, Response, and Evaluation, revise the Response based on the Evaluation and \
recommendations for improvements. Reply only with the revised response.

Question: {instruction}
Answer: {answer}
Evaluation:
{evaluation}
"""
)


def _evaluation(row: Row) -> str:
    """Scores, then critiques, in YAML with sorted keys."""
    import yaml

    parts = []
    for column in ("scores", "critiques"):
        value = row.get(column, {})
        if not isinstance(value, Mapping):
            raise DataError(f"{column} must be an object, it is {value!r}")
        parts.append(yaml.safe_dump(dict(value), default_flow_style=False, allow_unicode=True) if value else "")
    return "".join(parts)


def _critique(row: Row) -> Single:
    prompt = _CRITIQUE.format(instruction=text_of(row, "instruction"), answer=text_of(row, "answer"))
    return Single(prompt, _evaluation(row))


def _revise(row: Row) -> Single:
    texts = {column: text_of(row, column) for column in ("instruction", "answer")}
    return Single(_REVISE.format(**texts, evaluation=_evaluation(row)), text_of(row, "revision"))


class CreativeAcr(Instructions):
    """Answer, critique, revise."""

    name = "creative_acr.load_answer"
    layouts: ClassVar[Mapping[str, Layout]] = {
        "creative_acr.load_answer": Layout(
            from_columns("instruction", "revision"),
            ("instruction", "revision"),
            replace(CHAT, system="{system}"),
            _ANSWER,
        ),
        "creative_acr.load_critique": Layout(_critique, ("instruction", "answer", "scores", "critiques"), CHAT),
        "creative_acr.load_revise": Layout(_revise, ("instruction", "answer", "scores", "critiques", "revision"), CHAT),
    }
    names = tuple(layouts)
