from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.render import ChatRenderer
from newt.data.template import is_template, resolve_template, template_names
from newt.formats.chat_template import ChatTemplateDataset
from newt.support.errors import NewtError


def resolve(own: Any = "OWN", entry: dict[str, Any] | None = None, **template: Any) -> str:
    cfg = Config({Data: Data(), Template: Template(**template)})
    dataset = ChatTemplateDataset(path="x", type="chat_template", **(entry or {}))
    return resolve_template(dataset, cfg, SimpleNamespace(chat_template=own))


def test_the_dataset_wins_then_the_config_then_the_tokenizer() -> None:
    assert resolve() == "OWN"
    assert "<|im_start|>" in resolve(chat_template="chatml")
    assert resolve(chat_template="chatml", entry={"chat_template": "tokenizer_default"}) == "OWN"
    assert "<|eot_id|>" in resolve(chat_template="chatml", entry={"chat_template": "llama3"})
    assert resolve(chat_template="chatml", entry={"chat_template_jinja": "{{ 1 }}"}) == "{{ 1 }}"
    assert resolve({"default": "D", "tool_use": "T"}) == "D"


def test_fallback_jinja_and_files(tmp_path: Path) -> None:
    assert resolve(chat_template="tokenizer_default_fallback_chatml") == "OWN"
    assert "<|im_start|>" in resolve(None, chat_template="tokenizer_default_fallback_chatml")
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    assert resolve(chat_template="jinja", chat_template_jinja=str(tmp_path / "t.jinja")) == "{{ messages }}"


@pytest.mark.parametrize(
    ("own", "keys", "error"),
    [
        (None, {}, "the tokenizer has no chat template. Set chat_template to one of: alpaca, aya"),
        ("OWN", {"chat_template": "nope"}, "unknown template 'nope'. Valid: tokenizer_default, "),
        ("OWN", {"chat_template": "jinja"}, "jinja needs the template"),
        ("OWN", {"chat_template_jinja": "no/such.jinja"}, "neither a file nor a Jinja template"),
    ],
)
def test_errors_say_what_to_do(own: Any, keys: dict[str, Any], error: str) -> None:
    with pytest.raises(NewtError, match=error):
        resolve(own, **keys)


def test_names() -> None:
    assert {"chatml", "llama3"} <= set(template_names())
    assert all(map(is_template, ("jinja", "tokenizer_default", "chatml", "tokenizer_default_fallback_llama3")))
    assert not is_template("nope")


PARTS = [{"type": "text", "text": "a"}, " b", {"type": "image"}, {"content": "c"}, {"value": "d"}]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", "<|im_start|>user\na bcd<|im_end|>\n<|im_start|>assistant\n x <|im_end|>\n<|im_start|>assistant\n"),
        (
            "llama3",
            "<BOS><|start_header_id|>user<|end_header_id|>\n\na bcd<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>"
            "\n\nx<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ],
)
def test_built_in_templates(name: str, expected: str) -> None:
    messages = [{"role": "user", "content": PARTS}, {"role": "assistant", "content": " x "}]
    text, _ = ChatRenderer(resolve(chat_template=name), {"bos_token": "<BOS>"}).render(messages, None, True)
    assert text == expected
    assert ChatRenderer(resolve(chat_template=name), {}).render(messages[1:])[0].startswith("<|")
