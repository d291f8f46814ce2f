"""The code in CONTRIBUTING.md works as it stands there."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from newt import registry
from newt.config.core import Data, Dataset
from newt.config.section import Config
from newt.extend import Facts

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
BLOCK = re.compile(r"`(?:src/newt|tests)/\w+/(\w+)\.py`:\n\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SAMPLES = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[dict[str, ModuleType]]:
    """Every sample of the page as a module."""
    loaded = {}
    for name, code in SAMPLES.items():
        path = tmp_path / f"{name}.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location(f"sample_{name}", path)
        assert spec and spec.loader
        loaded[name] = importlib.util.module_from_spec(spec)
        sys.modules[f"sample_{name}"] = loaded[name]
        spec.loader.exec_module(loaded[name])
    yield loaded
    for name in loaded:
        del sys.modules[f"sample_{name}"]


def test_there_is_a_sample_of_each_part() -> None:
    assert set(SAMPLES) == {"cpu_threads", "test_cpu_threads", "question_answer", "newtlm", "brevity"}


def test_the_feature_passes_its_own_tests(sample: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FEATURES", (*registry.FEATURES, sample["cpu_threads"].CpuThreads))
    sample["test_cpu_threads"].test_the_number_reaches_torch()
    sample["test_cpu_threads"].test_it_is_refused_with_a_gpu()


def test_the_format_trains_the_answer(sample: dict[str, ModuleType]) -> None:
    read = sample["question_answer"].QuestionAnswer(Dataset(path="x", type="question_answer"), Config({Data: Data()}))
    segments = read({"question": "Why?", "answer": "So."}).segments
    assert [(segment.text, segment.train) for segment in segments] == [("Why?\n", False), ("So.", True)]


def test_the_family_is_chosen_and_packs_only_with_a_proof(
    sample: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.helpers import make_run, messages

    monkeypatch.setattr(registry, "FAMILIES", (*registry.FAMILIES, sample["newtlm"].NewtLm))
    facts = Facts(known=True, model={"model_type": "newtlm"})
    assert type(make_run(facts).family).__name__ == "NewtLm"
    [message] = messages(facts, sample_packing=True)
    assert "it is not proved that packed samples stay apart in newtlm models" in message


def test_the_method_is_chosen_by_its_key(sample: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.helpers import make_run

    monkeypatch.setattr(registry, "METHODS", (*registry.METHODS, sample["brevity"].Brevity))
    assert make_run().method.name == "sft"
    chosen = make_run(brevity=True)
    assert chosen.method.name == "brevity" and chosen.train_plan().loss.by == "brevity"
