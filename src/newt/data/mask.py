"""Which characters of a rendered conversation are trained.

The rule: what the model must write at inference. For a trained turn that is everything after the generation prompt
up to and including the stop token: content, reasoning with its tags, tool calls with their scaffolding. Borders come
from provenance, never from searching the messages' text, so nothing that a message says can move them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from newt.data.compare import Recovered, recover
from newt.data.probe import Messages, scaffold, shared, unknown_stop, written_stops
from newt.data.render import REASONING_KEYS, TOOLS, ChatRenderer
from newt.data.runs import HEADER_FIELDS, Run, before, runs_of
from newt.data.trace import Source, Span
from newt.data.unsaid import unsaid
from newt.extend import Conversation, Policy, Turn
from newt.support.errors import DataError

NO_STOP = "trained turn without a stop token"
NOT_RENDERED = "trained turn that the template does not render"
NO_CALLS = "tool calls that the template does not render"
COMPARED = "masks found by comparing renders: the template hides where its text comes from"


class Region(NamedTuple):
    """Characters ``begin:end`` of the rendered text, whether they are trained, why, and of which message."""

    begin: int
    end: int
    train: bool
    reason: str
    turn: int | None


class _Stop(NamedTuple):
    begin: int
    end: int
    policy: Policy


class _Rendered(NamedTuple):
    """A render: the spans of messages, what of them had to be recovered, and the spans of tools."""

    text: str
    spans: tuple[Span, ...]
    recovered: Recovered
    tools: tuple[Span, ...]


@dataclass
class Masked:
    """The trained regions of one conversation, in order, and what is odd about it.

    Attributes:
        spans: what of the text came from messages; ``tools``: from the list of tools, if the renderer traces them.
        regions: what of it is trained.
        unplaced: a message's text is in the render at an unknown place.
        endless: the conversation ends with a trained answer behind which the template writes no stop token.
    """

    text: str
    spans: Sequence[Span]
    regions: list[Region]
    notes: list[str] = field(default_factory=list)
    tools: Sequence[Span] = ()
    unplaced: bool = False
    endless: bool = False


class Masker:
    """Finds the trained characters of conversations that one template renders.

    Args:
        renderer: of the chat template.
        eos: end-of-sequence token, None if the tokenizer has none.
        eot: further tokens that end a turn; None: those of ``special`` with which the template ends answers.
        special: the special tokens of the tokenizer.

    Attributes:
        written: tokens of ``special`` that were found to end answers.
        unknown_stop: the text that ends an answer where it is no known token.
    """

    def __init__(
        self,
        renderer: ChatRenderer,
        eos: str | None,
        eot: Sequence[str] | None = None,
        special: Collection[str] = (),
    ) -> None:
        self.renderer = renderer
        self.eos = eos
        self._borders: dict[tuple[str, str], int] = {}
        self._scaffold = scaffold(self._probe)
        asks = self._scaffold.asks_always
        self.written = [] if eot is not None else written_stops(self._probe, special, asks)
        self.stops = list(dict.fromkeys(token for token in (eos, *(eot or ()), *self.written) if token))
        self.unknown_stop = unknown_stop(self._probe, self.stops)
        if self.unknown_stop:
            self.stops.append(self.unknown_stop)

    def __call__(self, conversation: Conversation) -> Masked:
        """Render a conversation and find what is trained.

        Raises:
            DataError: the template refuses the conversation, or flags and messages do not match.
        """
        if len(conversation.turns) != len(conversation.messages):
            raise DataError(f"{len(conversation.messages)} messages have {len(conversation.turns)} training flags")
        masked = self._located(conversation)
        text, spans = masked.text, masked.spans
        trained = self._renderable(conversation, masked)
        ends: list[tuple[Run, list[_Stop]]] = []
        for run in self._placed(runs_of(spans), text):
            stops = self._stops(text, spans, run, conversation) if run.primary else []
            if run.primary and run.message in trained:
                masked.regions += self._body(masked, conversation, run, stops)
                ends.append((run, stops))
                masked.notes += [] if stops else [NO_STOP]
                masked.endless |= not stops and run.message == len(conversation.messages) - 1
            masked.regions += [
                Region(stop.begin, stop.end, True, "stop token", run.message)
                for stop in stops
                if stop.policy == "all" or (stop.policy == "turn" and run.message in trained)
            ]
        masked.regions += _last_stops(ends)
        masked.regions.sort()
        masked.notes += () if masked.unplaced else unsaid(conversation, text, spans)
        masked.notes += [NOT_RENDERED] * len(trained - {run.message for run, _ in ends})
        return masked

    def _renderable(self, conversation: Conversation, masked: Masked) -> set[int]:
        """Trained turns, without those of which the template leaves out all that they say."""
        shown = {(source.message, source.field) for _, _, source, _ in masked.spans}
        trained = set()
        for i, (message, turn) in enumerate(zip(conversation.messages, conversation.turns, strict=True)):
            if not turn.train:
                continue
            calls_lost = bool(message.get("tool_calls")) and (i, "tool_calls") not in shown
            if calls_lost:
                masked.notes.append(NO_CALLS)
            content = message.get("content")
            says = bool(content.strip() if isinstance(content, str) else content)
            if says and (i, "content") not in shown:
                masked.notes.append(NOT_RENDERED)
            elif says or not calls_lost:
                trained.add(i)
        return trained

    def _located(self, conversation: Conversation) -> Masked:
        """The whole conversation with its spans.

        Raises:
            DataError: the text of a trained turn is rendered, but nothing tells where.
        """
        text, spans, recovered, tools = self._render(conversation, conversation.messages)
        masked = Masked(text, spans, [], tools=tools, unplaced=bool(recovered.unknown))
        for i, turn in enumerate(conversation.turns):
            if turn.train and i in recovered.unknown:
                role = conversation.messages[i].get("role", "")
                raise DataError(
                    f"message {i} ({role}): the chat template rewrites its text in a way that cannot be followed, "
                    "so it is unknown which tokens to train. Leave filters such as safe out of the template."
                )
        if recovered.spans:
            masked.notes.append(COMPARED)
        return masked

    def _render(self, row: Conversation, messages: Messages, prompt: bool = False) -> _Rendered:
        """Text and spans of messages, and what of the spans had to be recovered.

        An empty text has a place only in a message that says nothing else.
        """

        def render(messages: Messages) -> tuple[str, tuple[Span, ...]]:
            return self.renderer.render(
                messages,
                row.tools,
                add_generation_prompt=prompt,
                variables=row.template_kwargs,
                reasoning_key=row.reasoning_key,
            )

        text, spans = render(messages)
        tools = tuple([span for span in spans if span[2].message == TOOLS]) if row.tools else ()
        spans = tuple([span for span in spans if span[2].message != TOOLS]) if tools else spans
        keys = {*REASONING_KEYS, row.reasoning_key}
        found = recover(lambda changed: render(changed)[0], messages, text, spans, sorted(keys))
        if found.spans:
            spans = tuple(sorted((*spans, *found.spans), key=lambda span: span[:2]))
        solid = {source.message for b, e, source, _ in spans if b < e and source.field not in HEADER_FIELDS}
        spans = tuple([span for span in spans if span[0] < span[1] or span[2].message not in solid])
        return _Rendered(text, spans, found, tools)

    def _probe(self, messages: Messages, prompt: bool) -> tuple[str, Sequence[Span]]:
        return self._render(Conversation(messages, []), messages, prompt)[:2]

    def _placed(self, runs: Iterator[Run], text: str) -> Iterator[Run]:
        """Runs, where a turn without any body stands behind its role header."""
        for run in runs:
            if run.first == run.last and text.startswith(self._scaffold.header_end, run.end):
                at = run.end + len(self._scaffold.header_end)
                run = run._replace(begin=at, end=at)
            yield run

    # ------------------------------------------------------------------ one turn

    def _body(self, masked: Masked, conversation: Conversation, run: Run, stops: list[_Stop]) -> Iterator[Region]:
        """The trained pieces of a turn, without its stop token."""
        turn = conversation.turns[run.message]
        role = str(conversation.messages[run.message].get("role", ""))
        begin, end = run.begin, min((stop.begin for stop in stops), default=run.end)
        if role == "assistant":
            begin = self._target_begin(masked, conversation, run)
            end = end if stops else self._own_end(masked, conversation, run)
        narrowed = bool(turn.spans or turn.reasoning_spans)
        pieces: list[Region] = []
        for b, e, source, origin in masked.spans[run.first : run.last]:
            if source.field in HEADER_FIELDS:
                continue
            reason = _reason(source, role)
            spans = _narrowing(turn, source) if narrowed else None
            if spans is None:
                pieces.append(Region(b, e, True, reason, run.message))
            else:
                pieces += _narrow(b, e, origin, spans, reason, run.message)
        at, before = begin, True
        for piece in pieces:
            if at < piece.begin:
                train = before and piece.train
                yield Region(at, piece.begin, train, "template text of the turn", run.message)
            if piece.begin < piece.end:
                yield piece
            at, before = piece.end, piece.train
        if at < end:
            yield Region(at, end, before, "template text of the turn", run.message)

    def _target_begin(self, masked: Masked, conversation: Conversation, run: Run) -> int:
        """Where the generation prompt of an assistant turn ends."""
        text, spans = masked.text, masked.spans
        gap_begin, role_end, floor = before(spans, run)
        previous = gap_begin is not None
        gap_begin = gap_begin or 0
        gap = text[gap_begin : run.begin]
        key = (gap, f"{previous} {conversation.template_kwargs or None}")
        if key not in self._borders:
            tail = self._tail(conversation, run.message, prompt=True) if previous else None
            header = None if role_end is None else role_end - gap_begin
            if header is None and spans[run.first][2].field != "content":
                gap = shared(gap, self._plain_gap(conversation, run.message) or gap)
            self._remember(key, self._prompt_end(gap, tail, header))
        return max(gap_begin + self._borders[key], floor)

    def _plain_gap(self, conversation: Conversation, message: int) -> str | None:
        """What stands before the turn when it is a plain answer, without the scaffolding of calls and reasoning."""
        plain = [*conversation.messages[:message], {"role": "assistant", "content": "a"}]
        try:
            text, spans, *_ = self._render(conversation, plain)
        except DataError:
            return None
        begin = next((b for b, _, source, _ in spans if source == (message, "content", "")), None)
        ends = [e for _, e, source, _ in spans if source.message != message and source.field not in HEADER_FIELDS]
        return None if begin is None else text[max((e for e in ends if e <= begin), default=0) : begin]

    def _own_end(self, masked: Masked, conversation: Conversation, run: Run) -> int:
        """Where the template's text of a turn ends that has no stop token, such as the rest of a tool call."""
        limit = next((b for b, _, source, _ in masked.spans[run.last :] if source.message != run.message), None)
        gap = masked.text[run.end : limit]
        key = (gap, "after")
        if key not in self._borders:
            own = self._tail(conversation, run.message + 1, prompt=False) or ""
            self._remember(key, len(shared(own, gap).rstrip()))
        return run.end + self._borders[key]

    def _remember(self, key: tuple[str, str], border: int) -> None:
        """Keep a border that took a render to find; the same text of the template always has it."""
        if len(self._borders) > 4096:
            self._borders.clear()
        self._borders[key] = border

    def _tail(self, conversation: Conversation, count: int, prompt: bool) -> str | None:
        """What the template writes after the body of the first ``count`` messages, alone or to ask for the next."""
        try:
            text, spans, *_ = self._render(conversation, conversation.messages[:count], prompt)
        except DataError:
            return None
        ends = [e for _, e, source, _ in spans if source.field not in HEADER_FIELDS]
        return text[ends[-1] :] if ends else None

    def _prompt_end(self, gap: str, tail: str | None, role_end: int | None) -> int:
        """How much of the template's text before a turn belongs to the prompt."""
        prompt, header_end, asks_always = self._scaffold
        if (prompt or asks_always) and tail and gap.startswith(tail):
            repeated = gap.rfind(prompt, len(tail)) if prompt else -1
            return len(tail) if repeated < 0 else repeated + len(prompt)
        if prompt and tail is None and prompt in gap:
            return gap.rindex(prompt) + len(prompt)
        # There is no prompt, or it says something else than the turn does: only the role header is sure to be given.
        common = shared(gap, tail or "")
        if role_end is not None and header_end and gap.startswith(header_end, role_end):
            header = gap[: role_end + len(header_end)]
        elif prompt and tail and len(common) > len(tail) - len(prompt):
            header = common
        else:
            header = gap
        # Without a prompt nothing holds the blank that tokenizers join to the first word.
        return len(header if prompt else header.rstrip(" "))

    # ------------------------------------------------------------------ stop tokens

    def _stops(self, text: str, spans: Sequence[Span], run: Run, conversation: Conversation) -> list[_Stop]:
        """The stop tokens that the template writes after a turn and before the next one."""
        limit = next((b for b, _, source, _ in spans[run.last :] if source.message != run.message), len(text))
        stops = []
        for token in self.stops:
            at = text.find(token, run.end, limit)
            if at >= 0:
                is_eos = token in (self.eos, self.unknown_stop)
                policy = conversation.train_on_eos if is_eos else conversation.train_on_eot
                stops.append(_Stop(at, at + len(token), policy))
        return sorted(stops)


def _last_stops(ends: list[tuple[Run, list[_Stop]]]) -> Iterator[Region]:
    """Stop tokens with the policy ``last``: the final one of each trained conversation."""
    for run, stops in reversed(ends):
        wanted = [stop for stop in stops if stop.policy == "last"]
        if wanted:
            yield from (Region(stop.begin, stop.end, True, "stop token", run.message) for stop in wanted)
            return


def _reason(source: Source, role: str) -> str:
    if source.field == "reasoning":
        return "reasoning"
    if source.field == "tool_calls":
        return "tool call"
    return f"{role} {source.field}"


def _narrowing(turn: Turn, source: Source) -> Sequence[tuple[int, int, bool]] | None:
    """The flags inside a field; None: all of it is trained. Flags on one of content and reasoning speak for both."""
    if source.field == "content":
        return turn.spans
    return turn.reasoning_spans if source.field == "reasoning" else None


def _narrow(
    begin: int, end: int, origin: int, flags: Sequence[tuple[int, int, bool]], reason: str, message: int
) -> Iterator[Region]:
    """Cut ``begin:end`` (characters of a field from ``origin`` on) where the flags change; unflagged is not trained."""
    if origin < 0 or not flags:
        yield Region(begin, end, False, f"{reason}: not flagged", message)
        return
    at = begin
    for low, high, train in sorted(flags):
        b, e = max(low - origin + begin, at), min(high - origin + begin, end)
        if b >= e or not train:
            continue
        if at < b:
            yield Region(at, b, False, f"{reason}: flagged off", message)
        yield Region(b, e, True, reason, message)
        at = e
    if at < end or begin == end:
        yield Region(at, end, False, f"{reason}: flagged off", message)


def whole(masked: Masked, conversation: Conversation) -> list[Region]:
    """Regions over the whole text: the trained ones, and what lies between them with the reason why it is not."""
    regions: list[Region] = []
    at = 0
    bodies = [(b, e, source) for b, e, source, _ in masked.spans if b < e]
    for region in [*masked.regions, Region(len(masked.text), len(masked.text), False, "", None)]:
        if region.begin == region.end and region.turn is not None:
            continue
        for b, e, source in bodies:
            b, e = max(b, at), min(e, region.begin)
            if b >= e:
                continue
            regions.append(Region(at, b, False, "template text", None))
            regions.append(Region(b, e, False, _untrained(source, conversation, region), source.message))
            at = e
        continues = bool(regions) and regions[-1].turn == region.turn and regions[-1].reason != "generation prompt"
        reason = "generation prompt" if region.train and not continues else "template text"
        regions += [Region(at, region.begin, False, reason, None), region]
        at = region.end
    return [region for region in regions if region.begin < region.end]


def _untrained(source: Source, conversation: Conversation, following: Region) -> str:
    """Why text of a message before a trained region is not trained."""
    role = str(conversation.messages[source.message].get("role", ""))
    if source.field == "role":
        prompted = role == "assistant" and following.train and source.message == following.turn
        return "generation prompt" if prompted else "role header"
    return f"{role} turn: not trained"
