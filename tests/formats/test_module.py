"""Python modules of the user that make the rows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.formats.seen import byte_tokenizer, make_format, row_tokenizer, seen
from tests.helpers import complaints, make_run

from newt.data.encode import format_row
from newt.data.prepare import prepare
from newt.support.errors import DataError, NewtError

CODE = '''
from newt.extend import Conversation, Segment, Text, Tokens, Turn

def load(tokenizer, cfg, ds_cfg=None, processor=None):
    """A strategy as an object."""
    class Strategy:
        supports_batched = False
        def tokenize_prompt(self, row):
            ids = tokenizer(row[ds_cfg["field"]], add_special_tokens=False)["input_ids"]
            return {"input_ids": ids, "labels": [-100, *ids[1:]], "attention_mask": [1] * len(ids)}
    assert processor is None
    return Strategy()

def load_function(tokenizer, cfg):
    """A function; only the first two arguments."""
    mark = f"{cfg.sequence_len} {cfg['train_on_inputs']} {cfg.get('no_such_key')} "
    return lambda row: Text((Segment(mark, False), Segment(row["text"], True)))

def load_any(tokenizer, cfg, **more):
    return lambda row: Text((Segment(" ".join(sorted(more)), True),))

def row_to_tokens(row):
    return Tokens([5, 6, 7], [-100, 6, 7])

def row_to_talk(row):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": row["text"]}]
    return Conversation(messages, [Turn(False), Turn(True)])

def load_nothing(tokenizer, cfg):
    pass

def load_batched(tokenizer, cfg):
    class Strategy:
        supports_batched = True
        def tokenize_prompt(self, rows): ...
    return Strategy()

def load_wrong_key(tokenizer, cfg):
    return cfg.no_such_key

def load_three(tokenizer, cfg, more):
    ...

def fails(row):
    return row["no_such_column"]

def wrong_keys(row):
    return {"input_ids": [1], "label": [1]}

def wrong_type(row):
    return [1, 2]

NUMBER = 3
'''


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``own_rows`` in the current folder, which is on the path for this test alone."""
    (tmp_path / "own_rows.py").write_text(CODE)
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rows.py").write_text(
        "def load(tokenizer, cfg):\n    return lambda row: dict(input_ids=[5], labels=[5])\n"
    )
    (tmp_path / "broken_rows.py").write_text("def load(:\n")
    (tmp_path / "needy_rows.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("own_rows", "own_package", "own_package.rows", "broken_rows", "needy_rows"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("own_rows.load", "a⟦bc⟧"),
        ("own_rows.load_function", "<s>64 False None ⟦abc</s>⟧"),
        ("own_rows.load_any", "⟦<s>ds_cfg processor</s>⟧"),
        ("own_rows.row_to_tokens", None),
        ("own_package.rows", None),
        ("own_package.rows.load", None),
    ],
)
@pytest.mark.usefixtures("code")
def test_what_a_module_may_give(kind, expected):
    found = seen(kind, {"text": "abc"}, {"field": "text"}, sequence_len=64)
    assert found.count("⟦") == 1
    assert expected in (None, found)


@pytest.mark.usefixtures("code")
def test_a_conversation_goes_through_the_chat_template():
    found = seen("own_rows.row_to_talk", {"text": "b"}, chat_template="chatml")
    assert "<|im_start|>assistant\n⟦b<|im_end|>⟧" in found


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("zzzz.load", "type zzzz.load: there is no module zzzz. Install it, or run newt where"),
        ("own_rows.laod", r"own_rows has no function laod\. It has: load, load_function, load_any, row_to_tokens"),
        ("own_rows.NUMBER", "own_rows has no function NUMBER"),
        ("own_package.row.load", "there is no module own_package.row"),
        ("broken_rows.load", "type broken_rows.load: its import failed: SyntaxError"),
        ("needy_rows.load", "type needy_rows.load: its import failed: No module named 'a_package_that_nobody_has'"),
        ("own_rows.load_nothing", "load must return a function of one row, or an object with tokenize_prompt; it retu"),
        ("own_rows.load_batched", "rows come one at a time. Set supports_batched to False"),
        ("own_rows.load_wrong_key", "it failed: AttributeError: there is no key 'no_such_key'"),
        ("own_rows.load_three", "it failed: TypeError: load_three.. missing 1 required positional argument: 'more'"),
    ],
)
@pytest.mark.usefixtures("code")
def test_modules_that_cannot_be_used(kind, error):
    with pytest.raises(NewtError, match=error):
        row_tokenizer(make_format(kind))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("own_rows.fails", "own_rows.fails failed: KeyError: 'no_such_column'"),
        (
            "own_rows.wrong_keys",
            "own_rows.wrong_keys must give input_ids and labels, it gave the keys input_ids",
        ),
        ("own_rows.wrong_type", r"own_rows.wrong_type must give input_ids and labels, it gave \[1, 2\]"),
    ],
)
@pytest.mark.usefixtures("code")
def test_rows_that_a_module_does_not_make(kind, error):
    fmt = make_format(kind)
    fmt.bind(byte_tokenizer())
    with pytest.raises(DataError, match=error):
        format_row(fmt, {"text": "x"})


@pytest.mark.usefixtures("code")
def test_a_module_that_is_not_there_is_found_by_the_check():
    (found,) = complaints(datasets=[{"path": "a/b", "type": "own_row.load"}])
    assert found == "datasets.0.type: own_row.load: there is no module own_row. Did you mean own_rows.py?"
    assert complaints(datasets=[{"path": "a/b", "type": "own_rows.load"}]) == []


@pytest.mark.usefixtures("code")
def test_the_code_of_the_module_belongs_to_the_prepared_data():
    assert list(make_format("own_rows.load").modules()) == ["own_rows"]
    assert list(make_format("own_package.rows").modules()) == ["own_package.rows"]
    assert list(make_format("alpaca").modules()) == []


def test_prepared_data_is_made_anew_when_the_code_changes(code: Path):
    (code / "rows.jsonl").write_text('{"text": "abc"}\n' * 3)
    keys = {"dataset_prepared_path": "prepared", "dataset_num_proc": 1}

    def fingerprint() -> str:
        sys.modules.pop("own_rows", None)
        run = make_run(datasets=[{"path": "rows.jsonl", "type": "own_rows.row_to_tokens"}], **keys)
        prepared = prepare(run.data_plan(), byte_tokenizer())
        assert len(prepared.train) == 3
        return prepared.fingerprint

    first = fingerprint()
    assert fingerprint() == first
    (code / "own_rows.py").write_text(f"{CODE}\n# changed\n")
    assert fingerprint() != first
