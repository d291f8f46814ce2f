"""Where the turns of a rendered conversation lie, read off its provenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from newt.data.trace import Source, Span

HEADER_FIELDS = frozenset(("role", "name", "tool_call_id"))
"""Fields that templates write before a turn's body."""


class Run(NamedTuple):
    """Spans ``first:last`` of the render, all of one message's body, and the characters that they cover."""

    message: int
    first: int
    last: int
    begin: int
    end: int
    primary: bool


def runs_of(spans: Sequence[Span]) -> Iterator[Run]:
    """Stretches of body spans of one message; primary unless all of it was written before.

    Repeats at the end of a stretch are left out: templates write a tool's name again in the turn that answers it.
    A message of which only the role was written is an empty run behind its role.
    """
    written = {source.message for _, _, source, _ in spans if source.field not in HEADER_FIELDS}
    seen: dict[Source, int] = {}
    stretch: list[int] = []
    fresh: list[int] = []
    for i, (_, end, source, _) in enumerate(spans):
        bare = source.field == "role" and source.message not in written
        if source.field in HEADER_FIELDS and not bare:
            continue
        if stretch and (bare or spans[stretch[0]][2].message != source.message):
            yield _run(spans, stretch, fresh)
            stretch, fresh = [], []
        if bare:
            yield Run(source.message, i + 1, i + 1, end, end, True)
            continue
        stretch.append(i)
        if not _repeats(seen, spans[i]):
            fresh.append(i)
    if stretch:
        yield _run(spans, stretch, fresh)


def _repeats(seen: dict[Source, int], span: Span) -> bool:
    """Whether this text of a message was written before."""
    begin, end, source, origin = span
    repeats = source in seen and origin < seen[source]
    seen[source] = max(seen.get(source, 0), origin + end - begin)
    return repeats


def _run(spans: Sequence[Span], stretch: list[int], fresh: list[int]) -> Run:
    first, last = stretch[0], (fresh or stretch)[-1]
    return Run(spans[first][2].message, first, last + 1, spans[first][0], spans[last][1], bool(fresh))


def before(spans: Sequence[Span], run: Run) -> tuple[int | None, int | None, int]:
    """Ends of the body before a turn, of the turn's own role, and of the last text of another message."""
    role_end = floor = None
    for i in range(run.first - 1, -1, -1):
        _, end, source, _ = spans[i]
        if source.message != run.message and floor is None:
            floor = end
        if source.field not in HEADER_FIELDS:
            return end, role_end, floor or 0
        if role_end is None and source == (run.message, "role", ""):
            role_end = end
    return None, role_end, floor or 0
