"""newt inspect: which rows it shows, how, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest


def row(question, *answers, **more):
    turns = [{"role": "user", "content": question}]
    for answer in answers:
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": "and?"}]
    return {"messages": turns[:-1] if answers else turns, **more}


ROWS = [
    row("short", "b"),
    row("never trained"),
    row("</script><script>alert(1)</script> <b>", "The <i>needle</i> is here."),
    row("too long", "word " * 300),
    row("a longer question that is only read, word for word", "c"),
    row("middle", "one two three four five six seven eight nine ten"),
]


@pytest.fixture
def config(write_config, tmp_path):
    """A config of these rows and of a second dataset of two texts; nothing is prepared."""
    chat, texts = tmp_path / "chat.jsonl", tmp_path / "texts.jsonl"
    chat.write_text("".join(json.dumps(one) + "\n" for one in ROWS))
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("first text", "second needle " * 60)))
    datasets = [{"path": str(chat), "type": "chat_template"}, {"path": str(texts), "type": "completion"}]
    return write_config(datasets=datasets, val_set_size=None)


def shown(out):
    """(file, row) of each row that is shown."""
    return [(name, int(number)) for name, number in re.findall(r"^\S*?(\w+)\.jsonl row (\d+):", out, re.MULTILINE)]


def test_rows_that_are_not_there_are_an_error(newt, write_config):
    code, out, err = newt("inspect", write_config(), "--eval")
    assert (code, out) == (2, "")
    assert "there are none; val_set_size takes rows of datasets" in err


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--rows", "3"], [("chat", 0), ("chat", 1), ("texts", 0)]),
        (["--dataset", "1"], [("texts", 0), ("texts", 1)]),
        (["--row", "4", "--row", "0", "--dataset", "0"], [("chat", 4), ("chat", 0)]),
        (["--row", "1"], [("chat", 1), ("texts", 1)]),
        (["--row", "5"], [("chat", 5)]),
        (["--search", "NEEDLE"], [("chat", 2), ("texts", 1)]),
        (["--dropped"], [("chat", 1), ("chat", 3)]),
        (["--dropped", "--search", "long"], [("chat", 3)]),
        (["--dropped", "--longest", "--rows", "1"], [("chat", 3)]),
        (["--truncated"], []),
        (["--truncated", "--excess-length-strategy", "truncate"], [("chat", 3)]),
        (["--longest", "--rows", "2", "--dataset", "0"], [("chat", 2), ("chat", 5)]),
        (["--longest", "--search", "needle", "--rows", "1", "--dataset", "0"], [("chat", 2)]),
        (["--shortest", "--rows", "1"], [("texts", 0)]),
        (["--most-masked", "--rows", "1"], [("chat", 4)]),
        (["--sort", "length", "--row", "0", "--row", "3", "--dataset", "0"], [("chat", 3), ("chat", 0)]),
        (["--sort", "row", "--row", "3", "--row", "0", "--dataset", "0"], [("chat", 0), ("chat", 3)]),
    ],
)
def test_rows_are_chosen(newt, config, options, rows):
    for _ in range(2 if "--dropped" in options else 1):  # searched, and looked up in prepared data
        code, out, err = newt("inspect", config, "--sample-packing", "false", *options)
        assert code == 0, err
        assert shown(out) == rows
        if not rows:
            assert "There are no such rows." in out
        newt("preprocess", config, "--sample-packing", "false") if "--dropped" in options else None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--row", "6", "--dataset", "0"], "--row 6: there is no such row: "),
        (["--dataset", "2"], "--dataset 2: there are 2 datasets, the first is number 0."),
        (["--rows", "0"], "0 is not in the range"),
        (["--view", "song"], "'song' is not one of"),
    ],
)
def test_what_is_not_there_is_said(newt, config, options, said):
    code, out, err = newt("inspect", config, *options)
    assert (code, out) == (2, "") and said in err and "Traceback" not in err


def test_rows_say_what_becomes_of_them(newt, config):
    out = newt("inspect", config, "--row", "1", "--row", "3", "--dataset", "0")[1]
    assert "Not trained: no token of it is trained." in out
    assert re.search(r"Not trained: it has \d+ tokens, and sequence_len is 128\.", out)
    out = newt("inspect", config, "--row", "3", "--dataset", "0", "--excess-length-strategy", "truncate")[1]
    assert "Truncated: cut to the first 128 of" in out and "cut off: beyond the longest" in out
    out = newt("inspect", config, "--row", "1", "--dataset", "1")[1]
    assert re.search(r"Split: cut into \d rows of at most 128 tokens\.", out)


def test_views(newt, config):
    out = newt("inspect", config, "--row", "2", "--dataset", "0", "--view", "conversation")[1].splitlines()
    assert out[1:] == [
        "0 user, not trained",
        "  │ </script><script>alert(1)</script> <b>",
        "1 assistant, trained",
        "  ┃ ⟦The <i>needle</i> is here.⟧",
        "  ┃ ⟦<|im_end|>⟧",
        "",
    ]
    out = newt("inspect", config, "--row", "2", "--dataset", "0", "--view", "raw")[1]
    assert json.loads(out.partition("\n")[2]) == ROWS[2]


def test_the_page_needs_nothing_else_and_escapes_rows(newt, config, tmp_path):
    page = tmp_path / "deep" / "tokens.html"
    code, out, err = newt("inspect", config, "--rows", "12", "--html", page)
    assert code == 0 and "8 rows are in" in out + err
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text and text.count("<script>") == 1 and text.count("</script>") == 1
    assert not re.search(r"(?:src|href)=|https?://|@import|url\(", text)
    assert text.count('<details class="row"') == 8 and text.count('class="tab turns"') == 6
    assert 'data-only="dropped"' in text and 'data-only="split"' in text
    assert "rows fill" in text and '<div class="bin">' in text


def test_packed_sequences_are_drawn(newt, config):
    out = newt("inspect", config)[1]
    told = re.search(r"^(\d+) rows fill (\d+) sequences of 128 tokens, [\d.]+ % full\.", out, re.MULTILINE)
    rows, bins = map(int, told.groups())
    bars = re.findall(r"^ +\d+ [█▓]+·* +([\d.]+) % +(\d+) rows?$", out, re.MULTILINE)
    assert len(bars) == bins and sum(int(count) for _, count in bars) == rows
    assert "rows fill" not in newt("inspect", config, "--row", "0")[1]


def test_large_data_are_not_tokenized_to_show_three_rows(newt, config, monkeypatch, tmp_path):
    from newt.data import selection

    monkeypatch.setattr(selection, "SMALL", 5)
    monkeypatch.setattr(selection, "prepare", lambda *arguments: pytest.fail("all rows were tokenized"))
    code, out, err = newt("inspect", config, "--rows", "3")
    assert code == 0 and len(shown(out)) == 3
    assert "add --packing, to see the sequences" in err
    assert not (tmp_path / "prepared").exists() or not list((tmp_path / "prepared").glob("*/rows*"))


def test_a_row_that_cannot_be_used_is_shown_with_its_reason(newt, write_config, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps({"messages": [{"role": "user"}]}) + "\n")
    config = write_config(
        datasets=[{"path": str(bad), "type": "chat_template"}], val_set_size=None, sample_packing=None
    )
    code, out, _ = newt("inspect", config)
    assert code == 0 and "This row cannot be used: message 0 (user) has no 'content'" in out
