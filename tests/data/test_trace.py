from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from newt.data.render import ChatRenderer
from newt.data.trace import Source, Traced, concat, owner, percent, spans_of, trace
from newt.support.errors import DataError

TEXTS = st.lists(st.sampled_from(["a", "b", "ab", " ", "\n", "é", "🦑", "\t", ","]), max_size=8).map("".join)
SEPARATORS = st.sampled_from(["a", "b", "ab", " ", "\n", ","])
ORIGINS = {0: "", 1: ""}


def source(message: int) -> Source:
    return Source(message, "content")


def traced(text: str, message: int = 0) -> Traced:
    return trace(text, source(message))


def check(result: object, expected: object, originals: dict[int, str]) -> None:
    """The text is that of a plain string, and every span shows what it says it shows."""
    assert result == expected
    if isinstance(result, list | tuple):
        assert isinstance(expected, list | tuple)
        for one, other in zip(result, expected, strict=True):
            check(one, other, originals)
        return
    assert isinstance(result, str)
    for begin, end, src, origin in spans_of(result):
        assert 0 <= begin <= end <= len(result)
        if origin >= 0:
            assert str.__getitem__(result, slice(begin, end)) == originals[src.message][origin : origin + end - begin]


@given(TEXTS, SEPARATORS, st.integers(-1, 3))
def test_methods_give_the_same_text_and_true_spans(text: str, sep: str, count: int) -> None:
    mine, originals = traced(text), {0: text}
    calls = [
        ("strip", ()), ("lstrip", ()), ("rstrip", ()), ("strip", (sep,)), ("split", ()), ("split", (None, count)),
        ("split", (sep, count)), ("rsplit", (sep, count)), ("rsplit", (None, count)), ("splitlines", ()),
        ("splitlines", (True,)), ("partition", (sep,)), ("rpartition", (sep,)), ("removeprefix", (sep,)),
        ("removesuffix", (sep,)), ("upper", ()), ("lower", ()), ("title", ()), ("capitalize", ()), ("swapcase", ()),
        ("casefold", ()), ("ljust", (9,)), ("rjust", (9,)), ("center", (9,)), ("zfill", (9,)), ("expandtabs", ()),
    ]  # fmt: skip
    for name, arguments in calls:
        result = getattr(mine, name)(*arguments)
        if name in ("upper", "lower", "title", "capitalize", "swapcase", "casefold", "expandtabs", "center", "zfill"):
            assert result == getattr(text, name)(*arguments)
        else:
            check(result, getattr(text, name)(*arguments), originals)
    for new in ("", "xy", traced("xy", 1)):
        check(mine.replace(sep, new, count), text.replace(sep, str(new), count), {0: text, 1: "xy"})


@given(TEXTS, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([1, 2, -1]))
def test_slices(text: str, begin: int, end: int, step: int) -> None:
    mine, originals = traced(text), {0: text}
    check(mine[begin:end:step], text[begin:end:step], originals)
    check(list(mine), list(text), originals)
    if -len(text) <= begin < len(text):
        check(mine[begin], text[begin], originals)
    else:
        with pytest.raises(IndexError):
            mine[begin]


@given(TEXTS, TEXTS, TEXTS)
def test_joining(one: str, two: str, plain: str) -> None:
    first, second, originals = traced(one), traced(two, 1), {0: one, 1: two}
    check(first + second, one + two, originals)
    check(plain + first, plain + one, originals)
    check(first + plain + second, one + plain + two, originals)
    check(Traced(plain).join([first, second, "x"]), plain.join([one, two, "x"]), originals)
    check(first.join(["x", "y"]), one.join(["x", "y"]), originals)
    check(first * 2, one * 2, originals)
    check(concat([plain, first[:2], first[2:], second]), plain + one + two, originals)
    check(percent("%s|%d|%5s|%%", (first, 3, second)), f"{one}|3|{two:>5}|%", originals)


def test_pieces_of_one_text_become_one_span() -> None:
    text = traced("hello")
    assert spans_of(concat(list(text))) == ((0, 5, source(0), 0),)


def test_an_empty_text_keeps_its_place() -> None:
    assert spans_of("ab" + traced("") + "c") == ((2, 2, source(0), 0),)
    assert spans_of("ab" + traced(" \n").strip()) == ((2, 2, source(0), 2),)
    assert spans_of(("ab" + traced(" \n")).rstrip()) == ((2, 2, source(0), 0),)


def test_str_keeps_the_spans_and_hashing_works() -> None:
    text = traced("role")
    assert spans_of(str(text)) == text.spans
    assert {"role": 1}[text] == 1


def test_containers_belong_to_their_message() -> None:
    calls = trace([{"function": {"name": "f", "arguments": {"a": 1}}}], Source(3, "tool_calls"))
    assert owner(calls) == Source(3, "tool_calls")
    assert spans_of(calls[0]["function"]["name"])[0][2] == Source(3, "tool_calls", "0.function.name")
    assert owner({"new": calls[0]["function"]["arguments"], "n": 1}) == Source(3, "tool_calls", "0.function.arguments")
    assert owner({"x": traced("a"), "y": traced("b", 1)}) is None


MESSAGES = [
    {"role": "user", "content": " one, two \n"},
    {
        "role": "assistant",
        "content": "line\nnext",
        "thinking": "hm",
        "tool_calls": [{"name": "f", "arguments": {"k": "v"}}],
    },
]
EXPRESSIONS = {
    "m.content ~ '|' ~ m.role": [" one, two \n", "user"],
    "'[' + m.content | trim + ']'": ["one, two"],
    "m.content | upper": None,
    "m.content.split(',') | join(';')": [" one", " two \n"],
    "', '.join(m.content.split(','))": [" one", " two \n"],
    "'a X b'.replace('X', m.content)": [" one, two \n"],
    "'a X b' | replace('X', m.content)": [" one, two \n"],
    "m.content | replace('one', 'three')": [" ", "three", ", two \n"],
    "'%s!' % m.content": [" one, two \n"],
    "'%s %s!' % (m.role, m.content)": ["user", " one, two \n"],
    "'%s!' | format(m.content)": [" one, two \n"],
    "'{} {x}'.format(m.role, x=m.content)": ["user", " one, two \n"],
    "'{0:>9}'.format(m.role)": ["     user"],
    "m.content | indent(2)": [" one, two "],
    "m.content[1:4]": ["one"],
    "m.content | first": [" "],
    "m.content | list | join": [" one, two \n"],
    "m.content | string | trim | capitalize": ["One, two"],
    "m.content | tojson": ['" one, two \\n"'],
    "m | tojson": None,
    "(m.content.split(',') | map('trim') | list)[1]": ["two"],
}  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_of_templates(expression: str) -> None:
    template = "{% for m in messages %}<{{ " + expression + " }}>{% endfor %}"
    text, spans = ChatRenderer(template, {}).render(MESSAGES)
    [[expected], _] = render_jinja_template([MESSAGES], chat_template=template)
    assert text == expected
    wanted = EXPRESSIONS[expression]
    if wanted is not None:
        assert [text[b:e] for b, e, src, _ in spans if src.message == 0] == wanted


@pytest.mark.parametrize(
    "template",
    [
        "{% macro show(m) %}[{{ m.content }}]{% endmacro %}{% for m in messages %}{{ show(m) }}{% endfor %}",
        "{% for m in messages %}{% set c %}[{{ m.content }}]{% endset %}{{ c }}{% endfor %}",
        "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ '[' ~ m.content + ']' %}{% endfor %}"
        "{{ ns.t }}",
        "{% for m in messages %}{% filter trim %} [{{ m.content }}] {% endfilter %}{% endfor %}",
        "{% for m in messages %}[{% generation %}{{ m.content }}{% endgeneration %}]{% endfor %}",
        "{% for m in messages %}[{% for c in m.content %}{{ c }}{% endfor %}]{% endfor %}",
    ],
)
def test_statements_of_templates(template: str) -> None:
    text, spans = ChatRenderer(template, {}).render(MESSAGES)
    [[expected], _] = render_jinja_template([MESSAGES], chat_template=template)
    assert text == expected
    shown = [text[b:e] for b, e, _, _ in spans]
    assert shown == [" one, two \n", "line\nnext"]


def test_tool_calls_and_keys_are_traced() -> None:
    template = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.name }}({{ c.arguments | tojson }}) \
{% for k, v in c.arguments | items %}<{{ k }}>{{ v }}{% endfor %}{% endfor %}{% endfor %}"
    text, spans = ChatRenderer(template, {}).render(MESSAGES)
    assert text == 'f({"k": "v"}) <k>v'
    assert {src.field for _, _, src, _ in spans} == {"tool_calls"}
    assert [text[b:e] for b, e, _, _ in spans] == ["f", '{"k": "v"}', "k", "v"]


def test_reasoning_has_one_name_under_all_its_keys() -> None:
    text, spans = ChatRenderer("{{ messages[1].reasoning_content }}{{ messages[1].thinking }}", {}).render(MESSAGES)
    from transformers.utils import chat_template_utils

    # The oldest supported version shows it only under the name that the row uses.
    assert text == ("hmhm" if hasattr(chat_template_utils, "_REASONING_FIELDS") else "hm")
    assert {src.field for _, _, src, _ in spans} == {"reasoning"}


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses this conversation: roles must alternate"),
        ("{{ nothing.at.all }}", "refuses this conversation: 'nothing' is undefined"),
        ("{{ 'a' + 1 }}", "fails on this conversation: TypeError"),
        ("{{ ''.__class__.mro() }}", "unsafe"),
    ],
)
def test_a_refusal_is_a_data_error(template: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        ChatRenderer(template, {}).render(MESSAGES)


def test_a_broken_template_names_its_line() -> None:
    with pytest.raises(DataError, match="not valid Jinja: line 2"):
        ChatRenderer("a\n{% for %}", {})


settings.register_profile("newt", deadline=None)
settings.load_profile("newt")
