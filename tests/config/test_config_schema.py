"""The schema describes every key, and accepts and refuses what the reader does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.config.config_parts import ALL, FORMATS, Alpaca, Chat

from newt.config.core import Dataset
from newt.config.load import nested_sections
from newt.config.schema import DRAFT, field_docs, json_schema, used_definitions
from newt.config.section import Section
from newt.registry import entry_types, sections


def _every_section() -> list[type[Section]]:
    found: list[type[Section]] = []
    todo = [*sections(), *entry_types().values()]
    while todo:
        section = todo.pop()
        if section not in found:
            found.append(section)
            todo += [inner for field in section.model_fields.values() for inner in nested_sections(field.annotation)]
    return found


@pytest.mark.parametrize("section", _every_section(), ids=lambda section: section.__name__)
def test_every_key_is_documented(section: type[Section]) -> None:
    docs = field_docs(section)
    assert [name for name in section.model_fields if not docs.get(name)] == []


def test_docs_are_inherited_and_on_one_line() -> None:
    docs = field_docs(Chat)
    assert docs["field_messages"] == "Column."
    assert docs["path"] == field_docs(Dataset)["path"]
    assert all("\n" not in text for text in docs.values())


def test_a_section_without_source_has_no_docs() -> None:
    made = type("Made", (Section,), {"__annotations__": {"a": int}, "a": 1})
    assert field_docs(made) == {}


def test_every_key_has_type_default_and_description() -> None:
    schema = json_schema(ALL, FORMATS)
    assert schema["$schema"] == DRAFT
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["base_model", "learning_rate"]
    seed = schema["properties"]["seed"]
    assert seed == {"type": ["integer", "null"], "default": 42, "description": "Seed of every random choice."}
    for key, field in schema["properties"].items():
        assert field["description"], key
        assert {"type", "anyOf", "$ref"} & set(field), key
        assert "default" in field or key in schema["required"], key


def test_entries_have_the_keys_of_one_format() -> None:
    schema = json_schema(ALL, {**FORMATS, "alpaca_too": Alpaca})
    (array,) = [one for one in schema["properties"]["datasets"]["anyOf"] if one.get("type") == "array"]
    assert array["items"] == {"anyOf": [{"$ref": "#/$defs/Alpaca"}, {"$ref": "#/$defs/Chat"}]}
    alpaca = schema["$defs"]["Alpaca"]
    assert alpaca["additionalProperties"] is False
    assert alpaca["properties"]["type"]["examples"] == ["alpaca", "alpaca_too"]
    assert "Group" in schema["$defs"], "nested blocks are defined"
    assert schema["$defs"]["Group"]["properties"]["lr"]["description"] == "Its learning rate."
    assert "Adapter" not in schema["$defs"], "sections are not a thing of the user"


def test_older_spellings_are_in_the_schema() -> None:
    properties = json_schema(ALL, FORMATS)["properties"]
    assert properties["model_type"]["description"] == "Another spelling of type_of_model."
    assert properties["dpo_beta"]["deprecated"] is True


def test_the_real_schema_is_json_and_complete() -> None:
    schema = json_schema(sections(), entry_types())
    assert json.loads(json.dumps(schema)) == schema
    missing = set(_references(schema)) - set(schema["$defs"])
    assert not missing
    assert used_definitions(schema, schema["$defs"]) == schema["$defs"]


def test_the_schema_is_valid() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema(ALL, FORMATS)
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    good = {"base_model": "m", "learning_rate": 0.1, "datasets": [{"path": "p", "type": "alpaca"}]}
    assert validator(schema).is_valid(good)
    assert not validator(schema).is_valid({**good, "lora_alhpa": 1})
    assert not validator(schema).is_valid({**good, "datasets": [{"path": "p", "roles": 1}]})


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"].rpartition("/")[2]] if "$ref" in part else []
        return own + [name for inner in part.values() for name in _references(inner)]
    return [name for inner in part for name in _references(inner)] if isinstance(part, list) else []


def test_the_schema_takes_what_the_reader_takes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json.dumps(json_schema(sections(), entry_types())))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    config = {
        "base_model": "org/model",
        "learning_rate": 2e-5,
        "datasets": [{"path": "rows.jsonl", "type": "chat_template", "field_messages": None}],
        "weight_decay": None,
        "gradient_checkpointing": None,
        "fsdp_config": {"fsdp_offload_params": True, "fsdp_version": 2},
        "special_tokens": None,
        "dpo_beta": 0.1,
    }
    assert [error.message for error in validator.iter_errors(config)] == []
    for wrong in ({"lora_alhpa": 1}, {"fsdp_config": {"ofload_params": True}}, {"base_model": None}, {"seed": "x"}):
        assert list(validator.iter_errors({**config, **wrong})), wrong


def test_a_key_without_a_value_is_allowed_everywhere() -> None:
    schema = json_schema(sections(), entry_types())
    strict = [
        key
        for key, field in schema["properties"].items()
        if key not in schema["required"] and "null" not in str(field.get("type", field.get("anyOf")))
    ]
    assert strict == []
