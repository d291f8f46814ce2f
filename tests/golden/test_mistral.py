"""Rows of mistral-common tokenizers against recorded vectors of another implementation."""

from __future__ import annotations

import gzip
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mistral_common", reason="the package mistral-common is not installed")

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.messages import without_null
from newt.data.mistral import MistralRows
from newt.layouts import format_of
from newt.support.errors import NewtError

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "goldens" / "sft.jsonl.gz"
FILES = {
    "mistral_tekken": ("tekken_240911.json", "tekken.json"),
    "mistral_v7m1": ("mistral_instruct_tokenizer_241114.model.v7", "tokenizer.model.v7"),
}
DIFFERENT = {
    "with a system prompt the other labels tokens of the prompt": {
        "ct-mistral_tekken-multi_sys",
        "ct-mistral_tekken-eos_none-multi_sys",
    },
    "the other refuses training of other turns, single messages and details": {
        "ct-mistral_tekken-eos_all-multi_sys",
        "ct-mistral_tekken-eos_all-multi",
        "ct-mistral_tekken-roles_ua-multi_sys",
        "ct-mistral_tekken-roles_ua-multi",
        "ct-mistral_tekken-toi-multi_sys",
        "ct-mistral_tekken-toi-multi",
        "ct-mistral_tekken-mft",
        "ct-mistral_tekken-detail",
        "ct-mistral_v7m1-eos_all-multi",
        "ct-mistral_v7m1-toi-multi",
    },
    "the other does not train a text that it uses as a mark": {
        "ct-mistral_tekken-sentinel_text",
        "ct-mistral_v7m1-sentinel_text",
    },
    "later versions of the package allow an answer at the beginning": {
        "ct-mistral_tekken-assistant_first",
        "ct-mistral_v7m1-assistant_first",
    },
    "the other puts an end token between instruction and response": {
        "sft-alpaca-mistral_tekken",
        "sft-alpaca_w_system.load_open_orca-mistral_v7m1",
    },
}


@cache
def tokenizer(name: str, folder: Path) -> Any:
    import mistral_common
    from transformers import MistralCommonBackend

    file, wanted = FILES[name]
    (folder / name).mkdir()
    shutil.copy(Path(mistral_common.__file__).parent / "data" / file, folder / name / wanted)
    return MistralCommonBackend.from_pretrained(folder / name)


def encode(row: dict[str, Any], loaded: Any) -> list[tuple[list[int], list[int]]] | str:
    """Ids and labels of each token row, or the error."""
    entry, settings = row["dataset_config"], row["global_config"]
    cfg = Config({Data: Data(train_on_inputs=settings.get("train_on_inputs", False)), Template: Template()})
    kind = format_of(entry["type"], "supervised")
    assert kind is not None
    try:
        fmt = kind(kind.Settings(path="x", **entry), cfg)
        rows = MistralRows(loaded, cfg, fmt, settings.get("sequence_len", 2048))
        return [(r.input_ids.tolist(), r.labels.tolist()) for r in rows.encode(fmt(without_null(row["sample"])))]
    except NewtError as error:
        return str(error)


@pytest.mark.skipif(not VECTORS.is_file(), reason="the recorded vectors are not here")
def test_every_difference_is_listed_with_its_reason(tmp_path: Path) -> None:
    with gzip.open(VECTORS, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["tokenizer"] in FILES]
    # A token that ends turns cannot be chosen with these tokenizers: newt check refuses the key.
    rows = [row for row in rows if "eot_tokens" not in row["global_config"]]
    assert len(rows) > 35
    different = set()
    for row in rows:
        result = encode(row, tokenizer(row["tokenizer"], tmp_path))
        expected = row["expected_rows"] if "expected_rows" in row else [row.get("expected", {})]
        same = [(one.get("input_ids"), one.get("labels")) for one in expected]
        if isinstance(result, str) if "expected_error" in row else result == same:
            continue
        different.add(row["id"])
    assert different == {id_ for ids in DIFFERENT.values() for id_ in ids}
