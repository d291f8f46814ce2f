"""Nothing that a user can write makes the reader raise."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.config.config_parts import ALL, ByType

from newt.config.load import Loaded, check_sections, load
from newt.config.pending import PENDING

FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

KEYS = sorted({*PENDING, "lora_alhpa", "model_type", "rope_scaling", "path", "x"})
NAMES = st.sampled_from(KEYS) | st.text(max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**400, max_value=10**401)
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["alpaca", "auto", "no", "1e-5", "[a", "{"])
    | st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.integers() | st.none(), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.lists(
    st.dictionaries(st.sampled_from(["path", "type", "split", "field", "roles_to_train", "shards", "x"]), VALUES)
    | VALUES,
    max_size=3,
)
CONFIGS = st.dictionaries(NAMES | st.integers() | st.booleans(), VALUES, max_size=8).flatmap(
    lambda config: st.one_of(
        st.just(config),
        ENTRIES.map(lambda entries: {**config, "datasets": entries}),
        VALUES.map(lambda value: {**config, "special_tokens": value, "lr_groups": [value], "lora_rank_pattern": value}),
    )
)


def _sound(loaded: Loaded) -> None:
    for problem in loaded.problems:
        assert "\n" not in str(problem)
        assert problem.message
    if loaded.config is None:
        assert loaded.problems
    else:
        assert set(loaded.config.sections) == set(ALL)
        list(check_sections(loaded.config, ALL))


@FEW
@given(CONFIGS, st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_mapping(config: dict[Any, Any], overrides: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _sound(load(config, overrides, sections=ALL, entry_type=ByType()))


@FEW
@given(CONFIGS, st.lists(st.tuples(NAMES, st.text(max_size=12)).map("=".join), max_size=3))
def test_any_yaml(tmp_path_factory: Any, config: dict[Any, Any], overrides: list[str]) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "any.yml"
    path.write_text(yaml.dump(config), encoding="utf-8")
    _sound(load(path, overrides, sections=ALL, entry_type=ByType()))


PIECES = ["datasets", ": ", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "!!int ", "!x ", "'", '"', "|\n", "#", "\t", "seed", "1e5", "no", ",", "? ", "---\n", "%", "@", "0x1", "1:30", "\\", "é"]  # fmt: skip  # noqa: E501


@FEW
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=40))
def test_any_text(tmp_path_factory: Any, text: str) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "text.yml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    _sound(load(path, sections=ALL, entry_type=ByType()))


@FEW
@given(st.binary(max_size=60))
def test_any_bytes(tmp_path_factory: Any, data: bytes) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "bytes.yml"
    path.write_bytes(data)
    _sound(load(path, sections=ALL, entry_type=ByType()))
