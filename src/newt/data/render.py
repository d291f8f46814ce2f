"""Chat templates rendered so that every character is known to come from the template or from a message.

The Jinja environment is that of transformers, with one change: wherever Jinja makes a plain string out of pieces
(output, ``~``, filters, methods of literals, ``%`` and ``format``) the pieces keep their provenance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import lru_cache
from types import BuiltinMethodType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import do_indent, do_title
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

from newt.data.trace import Source, Span, Traced, concat, owner, percent, spans_of, trace
from newt.support.errors import DataError

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Names of the reasoning text, in the order in which transformers prefers them."""
TOOLS = -1
"""Message of the source of text that comes from the list of tools."""

_SAFE = frozenset(name for name in dir(str) if not name.startswith("_")) - {"format", "format_map"}
"""Methods of strings to which Jinja's sandbox has no objection and adds nothing."""
_OF_DICT = frozenset(dir(dict))


class _CodeGenerator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - name given by jinja2
        self.write("concat(map(str, (")
        for arg in node.nodes:
            self.visit(arg, frame)
            self.write(", ")
        self.write(")))")


class _Formatter(SandboxedFormatter):
    def trace(self, template: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """``template.format(*args, **kwargs)`` with spans; attributes are as safe as in the sandbox."""
        pieces: list[str] = []
        plain = self.vformat(template, args, kwargs)
        number = 0
        for literal, name, spec, conversion in self.parse(template):
            pieces.append(literal)
            if name is None:
                continue
            if name == "":
                name, number = str(number), number + 1
            value = self.convert_field(self.get_field(name, args, kwargs)[0], conversion)
            if isinstance(value, str) and not spec:
                pieces.append(value)
                continue
            text = self.format_field(value, self.vformat(spec or "", args, kwargs))
            pieces.append(_attributed(text, value))
        traced = concat(pieces)
        return traced if traced == plain else plain


class TracingEnvironment(ImmutableSandboxedEnvironment):
    """A Jinja sandbox whose string operations keep provenance."""

    code_generator_class = _CodeGenerator
    concat = staticmethod(concat)
    intercepted_binops = frozenset({"%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``message.content`` and ``content.strip``: what the sandbox finds after many checks, found at once."""
        kind = type(obj)
        if kind is Traced and attribute in _SAFE:
            return getattr(obj, attribute)
        if kind is dict and attribute not in _OF_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if (kind is LoopContext or kind is Namespace) and not attribute.startswith("_"):
            try:
                return getattr(obj, attribute)
            except AttributeError:
                pass
        return super().getattr(obj, attribute)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in jinja2
        """Methods of literals (``', '.join(...)``, ``'..'.replace(...)``) become methods of a traced string."""
        if type(__obj) is BuiltinMethodType and type(__obj.__self__) is str:
            __obj = getattr(Traced(__obj.__self__), __obj.__name__)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """``'%s' % value``."""
        if operator == "%" and isinstance(left, str):
            return percent(left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``'{}'.format(value)``."""
        plain = super().wrap_str_format(value)
        if plain is None or getattr(value, "__name__", "") != "format":
            return plain

        def traced(*args: Any, **kwargs: Any) -> str:
            return _Formatter(self).trace(value.__self__, args, kwargs)

        return traced


def _attributed(text: str, value: Any) -> str:
    source = owner(value)
    return text if source is None else Traced(text, ((0, len(text), source, -1),))


def _tojson(value: Any, **options: Any) -> str:
    return _attributed(json.dumps(value, **{"ensure_ascii": False, **options}), value)


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    return Traced(text, spans_of(text)).replace(str(old), str(new), -1 if count is None else count)


@jinja2.pass_environment
def _join(
    environment: jinja2.Environment, values: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> str:
    if attribute is not None:
        get = jinja2.filters.make_attrgetter(environment, attribute)
        values = map(get, values)
    return Traced(d, spans_of(d)).join(map(str, values))


def _format(template: Any, *args: Any, **kwargs: Any) -> str:
    return percent(str(template), kwargs or args)


def _title(text: Any) -> str:
    return _attributed(do_title(str(text)), text)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    indention = Traced(width if isinstance(width, str) else " " * width)
    return do_indent(Traced(text, spans_of(text)), indention, first, blank)


@lru_cache(maxsize=1)
def _environment() -> TracingEnvironment:
    """The environment of the installed transformers, tracing."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    theirs = _compile_jinja_template("").environment
    ours = TracingEnvironment(
        trim_blocks=theirs.trim_blocks,
        lstrip_blocks=theirs.lstrip_blocks,
        extensions=[type(extension) for extension in theirs.extensions.values()],
    )
    ours.globals.update(theirs.globals)
    ours.filters.update(theirs.filters)
    ours.filters.update(
        tojson=_tojson,
        replace=_replace,
        join=_join,
        format=_format,
        title=_title,
        capitalize=_capitalize,
        indent=_indent,
    )
    return ours


def _capitalize(text: Any) -> str:
    return str(text).capitalize()


@lru_cache(maxsize=64)
def compile_template(template: str) -> jinja2.Template:
    """Compile a chat template.

    Raises:
        DataError: it is not valid Jinja.
    """
    try:
        return _environment().from_string(template)
    except jinja2.TemplateSyntaxError as error:
        raise DataError(f"the chat template is not valid Jinja: line {error.lineno}: {error.message}") from error


class ChatRenderer:
    """Renders conversations with one template.

    Args:
        template: Jinja text.
        variables: what the template may read besides the conversation, such as ``bos_token``.
        trace_tools: text of tools is told from the template's too.
    """

    def __init__(self, template: str, variables: Mapping[str, Any], trace_tools: bool = False) -> None:
        self.template = template
        self._trace_tools = trace_tools
        self.variables = dict(variables)
        self._compiled = compile_template(template)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
        reasoning_key: str = REASONING_KEYS[0],
    ) -> tuple[str, tuple[Span, ...]]:
        """The text of ``apply_chat_template(tokenize=False)``, and the spans of it that came from messages.

        Args:
            messages: the conversation.
            tools: tools that the model may call.
            add_generation_prompt: end with the beginning of an assistant turn.
            variables: further variables, stronger than those of the renderer.
            reasoning_key: message key whose text counts as reasoning, besides the usual ones.

        Raises:
            DataError: the template refuses the conversation.
        """
        keys = {*REASONING_KEYS, reasoning_key}
        try:
            text = self._compiled.render(
                messages=[_traced_message(i, message, keys) for i, message in enumerate(messages)],
                tools=None if tools is None else self._tools(tools),
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{**self.variables, **(variables or {})},
            )
        except jinja2.TemplateError as error:
            raise DataError(f"the chat template refuses this conversation: {_plain(error)}") from error
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise DataError(
                f"the chat template fails on this conversation: {type(error).__name__}: {_plain(error)}"
            ) from error
        return str.__getitem__(text, slice(None)), spans_of(text)

    def _tools(self, tools: Sequence[Mapping[str, Any]]) -> list[Any]:
        source = Source(TOOLS, "tools")
        return [trace(tool, source) for tool in tools] if self._trace_tools else list(tools)


def _plain(error: Exception) -> str:
    """The message, with strings under their usual name."""
    return str(error).replace("newt.data.trace.Traced", "str").replace("'Traced'", "'str'")


def _traced_message(index: int, message: Mapping[str, Any], reasoning_keys: Set[str]) -> dict[str, Any]:
    """A message as transformers shows it to a template: no null values, and reasoning under each of its names."""
    present = {
        key: trace(value, Source(index, "reasoning" if key in reasoning_keys else key))
        for key, value in message.items()
        if value is not None
    }
    reasoning = next((present[key] for key in REASONING_KEYS if key in present), None)
    if reasoning is not None and _fills_in_reasoning():
        present = {"thinking": reasoning, **present, "reasoning_content": reasoning}
    return present


@lru_cache(maxsize=1)
def _fills_in_reasoning() -> bool:
    """Whether the installed transformers shows reasoning under names that the row does not use; 5.17 does not."""
    from transformers.utils import chat_template_utils

    return hasattr(chat_template_utils, "_REASONING_FIELDS")
