"""Prepared data are used again exactly when nothing that they were made from has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.data.pipeline import FakeTokenizer, Ids, config, plan_of, write_ids

from newt.config.core import Dataset
from newt.data import cache
from newt.data.prepare import Datasets, prepare
from newt.extend import DataPlan, Format


class Entry(Dataset):
    """An entry with a key of its own."""

    type: str | None = "ids"
    own: int = 1
    chat_template_jinja: str | None = None


class Other(Ids):
    """Another format with the same result."""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_ids(tmp_path / "a.jsonl", [5] * 8)
    write_ids(tmp_path / "t.jsonl", [5] * 3, first=2000)
    (tmp_path / "a.jinja").write_text("one")


def plan(fmt: type[Format] = Ids, *, entries: Mapping[str, Any] = {}, **keys: Any) -> DataPlan:
    keys = {"dataset_prepared_path": "prepared", **keys}
    return plan_of(config([Entry(**{"path": "a.jsonl", **entries})], **keys), fmt)


def hits(made: DataPlan, tokenizer: Any = None, **how: Any) -> bool:
    lines: list[str] = []
    prepare(made, tokenizer or FakeTokenizer(), explain=lines.append, **how)
    return lines[0].startswith("cache hit")


def test_the_same_inputs_hit() -> None:
    assert not hits(plan())
    assert hits(plan())


def test_what_does_not_matter_does_not_miss() -> None:
    assert not hits(plan())
    os.utime("a.jsonl", (1, 1))
    assert hits(plan())
    assert hits(plan(dataset_num_proc=2, output_dir="elsewhere", num_epochs=3, micro_batch_size=4, logging_steps=5))


CHANGES: dict[str, Callable[[], DataPlan]] = {
    "sequence_len": lambda: plan(sequence_len=100),
    "eval_sequence_len": lambda: plan(eval_sequence_len=100),
    "seed": lambda: plan(seed=1),
    "val_set_size": lambda: plan(val_set_size=2),
    "excess_length_strategy": lambda: plan(excess_length_strategy="truncate"),
    "min_sample_len": lambda: plan(min_sample_len=3),
    "train_on_inputs": lambda: plan(train_on_inputs=True),
    "shuffle_merged_datasets": lambda: plan(shuffle_merged_datasets=False),
    "shuffle_before_merging_datasets": lambda: plan(shuffle_before_merging_datasets=True),
    "chat_template": lambda: plan(chat_template="chatml"),
    "chat_template_jinja": lambda: plan(chat_template_jinja="{{ messages[0] }}"),
    "chat_template_kwargs": lambda: plan(chat_template_kwargs={"enable_thinking": False}),
    "eot_tokens": lambda: plan(eot_tokens=("<x>",)),
    "split": lambda: plan(entries={"split": "train[:6]"}),
    "key of the format": lambda: plan(entries={"own": 2}),
    "type": lambda: plan(entries={"type": "other"}),
    "format": lambda: plan(Other),
    "one dataset more": lambda: plan_of(config([Entry(path="a.jsonl")] * 2, dataset_prepared_path="prepared")),
    "test data": lambda: plan_of(
        config([Entry(path="a.jsonl")], [Entry(path="t.jsonl")], dataset_prepared_path="prepared")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_setting_misses(change: str) -> None:
    assert not hits(plan())
    assert not hits(CHANGES[change]())
    assert hits(CHANGES[change]())
    assert hits(plan())


def test_a_change_of_a_file_misses() -> None:
    assert not hits(plan())
    write_ids(Path("a.jsonl"), [5] * 7 + [6])
    assert not hits(plan())


def test_a_change_of_a_template_file_misses() -> None:
    for made in (plan(chat_template_jinja="a.jinja"), plan(entries={"chat_template_jinja": "a.jinja"})):
        Path("a.jinja").write_text("one")
        assert not hits(made)
        Path("a.jinja").write_text("two")
        assert not hits(made)


@pytest.mark.parametrize(
    "tokenizer", [FakeTokenizer("other"), FakeTokenizer(template="other"), FakeTokenizer(eos="<end>")]
)
def test_a_change_of_the_tokenizer_misses(tokenizer: FakeTokenizer) -> None:
    assert not hits(plan())
    assert not hits(plan(), tokenizer)


def test_a_tokenizer_changed_by_its_use_hits() -> None:
    used = FakeTokenizer()
    used.backend_tokenizer.to_str = lambda: '{"model": "words", "truncation": {"max_length": 9}, "padding": 1}'  # type: ignore[method-assign]
    assert not hits(plan())
    assert hits(plan(), used)


def test_a_change_of_the_layout_or_the_code_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hits(plan())
    monkeypatch.setattr(cache, "DATA_VERSION", 2)
    assert not hits(plan())
    monkeypatch.setattr(cache, "_own_code", lambda: "other")
    assert not hits(plan())
    assert hits(plan())


FORMAT = """
from tests.data.pipeline import Ids
class Mine(Ids):
    def __call__(self, row):
        return super().__call__({**row, "ids": row["ids"] + [%d]})
"""


def test_a_change_of_the_code_of_a_format_misses(tmp_path: Path) -> None:
    def mine(number: int) -> type[Format]:
        path = tmp_path / "mine.py"
        path.write_text(FORMAT % number)
        spec = __import__("importlib.util").util.spec_from_file_location("mine_format", path)
        module = __import__("importlib.util").util.module_from_spec(spec)
        sys.modules["mine_format"] = module
        spec.loader.exec_module(module)
        found: type[Format] = module.Mine
        return found

    assert not hits(plan(mine(1)))
    assert hits(plan(mine(1)))
    assert not hits(plan(mine(2)))
    del sys.modules["mine_format"]


def test_only_a_given_folder_is_used_again() -> None:
    for _ in range(2):
        assert not hits(plan(dataset_prepared_path=None))
    assert len(list(Path("last_run_prepared").glob("*/rows.arrow"))) == 1


def test_force_makes_the_data_again() -> None:
    assert not hits(plan())
    assert not hits(plan(), force=True)
    assert hits(plan())


# --------------------------------------------------------------------------- damage


def stored(made: Datasets) -> list[list[int]]:
    return [row["input_ids"].tolist() for row in made.train]


@pytest.mark.parametrize("name", ["rows.arrow", "train.npy", "summary.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_data_are_made_again(name: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = prepare(plan(), FakeTokenizer())
    assert made.path is not None
    path, expected = made.path / name, stored(made)
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "remove":
        path.unlink()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        path.write_bytes(content[:middle] if damage == "cut" else flipped)
    assert not hits(plan())
    assert hits(plan())
    assert stored(prepare(plan(), FakeTokenizer())) == expected


def test_damage_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    made = prepare(plan(seed=99), FakeTokenizer())  # the same warning is printed once
    assert made.path is not None
    (made.path / "train.npy").unlink()
    prepare(plan(seed=99), FakeTokenizer())
    assert f"the prepared data in {made.path} are damaged (train.npy is missing)" in capsys.readouterr().err


# --------------------------------------------------------------------------- why


def test_a_miss_names_what_differs_from_the_nearest() -> None:
    lines: list[str] = []
    prepare(plan(), FakeTokenizer(), explain=lines.append)
    assert lines == ["cache miss: there is no prepared data in prepared yet"]
    prepare(plan(seed=5, sequence_len=77), FakeTokenizer(), explain=lines.append)
    lines.clear()
    write_ids(Path("a.jsonl"), [6] * 8)
    made = prepare(plan(seed=5, sequence_len=78, eot_tokens=("x",)), FakeTokenizer(), explain=lines.append)
    assert lines[0].startswith("cache miss: the nearest prepared data are in prepared/")
    assert [line.split(":")[0] for line in lines[1:]] == ["  datasets.0.content", "  eot_tokens", "  sequence_len"]
    assert lines[2:] == ['  eot_tokens: null -> ["x"]', "  sequence_len: 77 -> 78"]
    lines.clear()
    prepare(plan(seed=5, sequence_len=78, eot_tokens=("x",)), FakeTokenizer(), explain=lines.append)
    assert lines == [f"cache hit: {made.path}"]


# --------------------------------------------------------------------------- several processes

RACE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pipeline import FakeTokenizer, Ids, config, plan_of
from newt.config.core import Dataset
from newt.data.prepare import prepare
class Slow(Ids):
    def __call__(self, row):
        print("row", flush=True)
        time.sleep(0.1)
        return super().__call__(row)
print("ready", flush=True)
sys.stdin.readline()
made = prepare(plan_of(config([Dataset(path="a.jsonl")]), Slow), FakeTokenizer())
print([int(row["input_ids"][0]) for row in made.train], flush=True)
"""


def test_of_two_processes_one_prepares() -> None:
    command = [sys.executable, "-c", RACE, str(Path(__file__).parent)]
    pair = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in pair:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in pair:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outs = [process.communicate() for process in pair]
    lines = [out.splitlines() for out, _ in outs]
    assert sorted(line.count("row") for line in lines) == [0, 8]
    assert lines[0][-1] == lines[1][-1]
    assert any("Waiting for process" in err for _, err in outs)


KILLED = """
import os, random, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pipeline import FakeTokenizer, Ids, config, plan_of
from newt.config.core import Dataset
from newt.data.prepare import prepare

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree", "fcntl.lockf"}

def forked(work):
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(7 if sys.exc_info()[0] else 0)
    return os.waitpid(child, 0)[1]

def made(place):
    plan = plan_of(config([Dataset(path="a.jsonl")], dataset_prepared_path=place, num_dataset_shards_to_save=2))
    return sorted(row["input_ids"].tolist() for row in prepare(plan, FakeTokenizer()).train)

def killed_at(place, moment):
    seen = [0]
    def watch(event, _):
        seen[0] += event in EVENTS
        if event in EVENTS and seen[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    made(place)
    Path("events").write_text(str(seen[0]))

expected = made("whole")
forked(lambda: killed_at("counted", -1))
total = int(Path("events").read_text())
moments = sorted(random.Random(0).sample(range(1, total + 1), min(total, 25)))
for moment in moments:
    place = f"at{moment}"
    assert forked(lambda: killed_at(place, moment)) == signal.SIGKILL, moment
    for _ in range(2):
        assert made(place) == expected, moment
    left = [path.name for path in Path(place).iterdir() if "partial" in path.name]
    assert not left, (moment, left)
print("killed", len(moments), "times")
"""


def test_killed_at_any_moment_the_next_run_is_right() -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "killed 25 times" in done.stdout, done.stdout


def test_the_lock_of_a_dead_process_holds_nobody_up(capsys: pytest.CaptureFixture[str]) -> None:
    first = prepare(plan(), FakeTokenizer())
    assert first.path is not None
    lock = first.path.with_name(f"{first.path.name}.lock")
    lock.write_text("999999")
    assert hits(plan())
    assert "Waiting" not in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_damaged_inputs_of_another_run_do_not_matter(content: str) -> None:
    first = prepare(plan(), FakeTokenizer())
    assert first.path is not None
    (first.path / "inputs.json").write_text(content)
    lines: list[str] = []
    prepare(plan(seed=1), FakeTokenizer(), explain=lines.append)
    assert lines[0].startswith("cache miss")
    assert not hits(plan()), "the folder is damaged, and made again"
    assert hits(plan())
