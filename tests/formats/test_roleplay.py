"""Role play: the exact text, and what of it is trained."""

import pytest
from tests.formats.seen import byte_tokenizer, make_format, notes_of, row_tokenizer, seen

from newt.data.encode import format_row
from newt.support.errors import DataError

TALK = {
    "conversations": [
        {"role": "system", "value": "A librarian\n<START>"},
        {"role": "human", "value": " Hello "},
        {"role": "bot", "value": "Shh!"},
        {"role": "human", "value": "sorry"},
        {"role": "bot", "value": " Better. "},
    ]
}
TALK_TEXT = "<s><|system|>Persona: A librarian<|user|> Hello<|model|>⟦ Shh!</s>⟧<|user|> sorry<|model|>⟦ Better.</s>⟧"


def test_metharme_trains_the_generation_and_three_end_tokens():
    row = {"prompt": "<|system|>Play.<|user|>hi<|model|>", "generation": "Hello."}
    assert seen("metharme", row) == "<s><|system|>Play.<|user|>hi<|model|>⟦Hello.</s></s></s>⟧"
    assert seen("metharme.load", {"prompt": "", "generation": "g"}) == "<s>⟦g</s></s></s>⟧"
    assert seen("metharme", {"prompt": "p", "generation": "g"}, train_on_inputs=True) == "⟦<s>pg</s></s></s>⟧"


def test_an_empty_generation_is_noted():
    row = {"prompt": "p", "generation": ""}
    assert seen("metharme", row) == "<s>p⟦</s></s></s>⟧"
    assert notes_of("metharme", row) == ["empty response: only the end token is trained"]


def test_pygmalion_trains_what_the_bot_says():
    assert seen("pygmalion", TALK) == TALK_TEXT
    assert seen("pygmalion.load", {"conversations": TALK["conversations"][1:3]}) == (
        "<s><|user|> Hello<|model|>⟦ Shh!</s>⟧"
    )
    assert seen("pygmalion", TALK, train_on_inputs=True) == f"⟦{TALK_TEXT.replace('⟦', '').replace('⟧', '')}⟧"


def test_the_end_tokens_of_the_format_are_tokens_and_not_what_the_row_says():
    assert seen("pygmalion", TALK, split_special_tokens=True) == TALK_TEXT
    assert seen("metharme", {"prompt": "p", "generation": "g"}, split_special_tokens=True) == "<s>p⟦g</s></s></s>⟧"


@pytest.mark.parametrize(
    ("kind", "row", "error"),
    [
        ("metharme", {"prompt": "p"}, "generation is missing; the row has: prompt"),
        (
            "pygmalion",
            {"conversations": [{"role": "narrator", "value": "x"}]},
            r"\[0\]: role must be system, human or",
        ),
        ("pygmalion", {"conversations": [{"role": "bot"}]}, r"conversations\[0\]: value is missing"),
        ("pygmalion", {"conversations": "hi"}, "conversations is a string but not JSON"),
        ("pygmalion", {"text": "hi"}, "conversations is missing; the row has: text"),
    ],
)
def test_rows_that_do_not_fit(kind, row, error):
    fmt = make_format(kind)
    fmt.bind(byte_tokenizer())
    with pytest.raises(DataError, match=error):
        format_row(fmt, row)


@pytest.mark.parametrize("kind", ["metharme", "pygmalion"])
def test_a_tokenizer_without_an_end_token(kind):
    fmt = make_format(kind)
    with pytest.raises(DataError, match=r"Set special_tokens\.eos_token"):
        row_tokenizer(fmt, byte_tokenizer(eos=None))
        fmt({"prompt": "p", "generation": "g", **TALK})
