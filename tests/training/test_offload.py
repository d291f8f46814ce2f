"""Activations that wait outside the device's memory."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from newt.losses.causal import causal_loss
from newt.training import offload
from newt.training.offload import (
    Copies,
    DiskStore,
    MemoryStore,
    hooks,
    make_store,
    offloaded,
    remove_abandoned,
)


@pytest.fixture
def model(model_dir: Path) -> Any:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(model_dir).train()


def gradients(model: Any, loss: Any) -> dict[str, torch.Tensor]:
    ids = torch.arange(3, 35).reshape(2, 16)
    model.zero_grad()
    loss(model, {"input_ids": ids, "labels": ids}, 30).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("mode", ["overlap", "wait", "disk"])
def test_gradients_stay_bit_for_bit(
    model: Any, mode: Any, checkpointing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offload, "LEAST_BYTES", 0)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    expected, store = gradients(model, causal_loss), make_store(mode, tmp_path)
    found = gradients(model, offloaded(causal_loss, lambda: store))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_layer_inputs_are_moved_and_weights_are_not(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offload, "LEAST_BYTES", 0)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    shapes: list[tuple[int, ...]] = []
    store = make_store("wait", tmp_path)
    put = store.put
    monkeypatch.setattr(store, "put", lambda tensor: shapes.append(tuple(tensor.shape)) or put(tensor))
    gradients(model, offloaded(causal_loss, lambda: store, hidden_only=True))
    hidden = (2, 16, model.config.hidden_size)
    assert shapes.count(hidden) >= model.config.num_hidden_layers
    assert {len(shape) for shape in shapes} == {3}


def test_views_of_weights_stay() -> None:
    weight = torch.nn.Parameter(torch.ones(1024, 1024))
    pack, unpack = hooks(None, hidden_only=False)
    for kept in (weight, weight.t(), torch.ones(3)):
        assert unpack(pack(kept)) is kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_files_hold_every_type_and_go_with_their_tensors(dtype: torch.dtype, tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    tensor = torch.randn(3, 5).mul(10).to(dtype).t()
    kept = store.put(tensor)
    assert torch.equal(kept(), tensor)
    assert len(list(store.folder.glob("*.bin"))) == 1
    del kept
    gc.collect()
    assert list(store.folder.glob("*.bin")) == []


def test_the_folder_goes_with_the_process_and_after_a_crash_with_the_next_run(tmp_path: Path) -> None:
    code = (
        "import os, sys, torch; from pathlib import Path; from newt.training.offload import DiskStore\n"
        "store = DiskStore(Path(sys.argv[1])); kept = store.put(torch.ones(4)); kept()\n"
        "if sys.argv[2] == 'crash': os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), "end"], check=True)
    assert list(tmp_path.iterdir()) == []
    subprocess.run([sys.executable, "-c", code, str(tmp_path), "crash"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    mine = DiskStore(tmp_path)
    assert list(tmp_path.iterdir()) == [mine.folder]
    remove_abandoned(tmp_path)
    assert mine.folder.is_dir()


class Real(Copies):
    """Copies that are made on a CPU too, and counted."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def away(self, tensor: torch.Tensor) -> torch.Tensor:
        self.log.append("away")
        return tensor.clone()

    def back(self, kept: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, Any]:
        self.log.append("back")
        return kept.clone(), "copied"

    def wait(self, tensor: torch.Tensor, copied: Any) -> None:
        assert copied == "copied"
        self.log.append("wait")


def real_store(*, overlap: bool) -> tuple[MemoryStore, list[str]]:
    store, copies = MemoryStore(overlap=overlap), Real()
    store.beside[torch.device("cpu")] = copies
    return store, copies.log


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_stay_when_everything_is_really_copied(
    model: Any, overlap: bool, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offload, "LEAST_BYTES", 0)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    expected = gradients(model, causal_loss)
    store, log = real_store(overlap=overlap)
    for _ in range(2):
        found = gradients(model, offloaded(causal_loss, lambda: store))
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert log.count("away") > 2 * model.config.num_hidden_layers
    assert 0 < log.count("back") <= log.count("away") if overlap else log.count("back") >= log.count("away")
    gc.collect()
    assert not store.known, "nothing waits after the backward pass"


def test_the_last_stay_and_the_one_before_is_fetched_ahead() -> None:
    store, log = real_store(overlap=True)
    tensors = [torch.full((4,), float(number)) for number in range(8)]
    waiting = [store.put(tensor) for tensor in tensors]
    assert [held.here is not None for held in waiting] == [False] * 4 + [True] * 4
    assert torch.equal(waiting.pop()(), tensors[7])
    assert "back" not in log
    for _ in range(3):
        waiting.pop()()
    assert log.count("back") == 1, "the one that is wanted next"
    assert torch.equal(waiting.pop()(), tensors[3])
    assert log.count("wait") == 1
    assert log.count("back") == 2


def test_without_overlap_nothing_stays() -> None:
    store, log = real_store(overlap=False)
    held = store.put(torch.ones(4))
    assert held.here is None
    assert torch.equal(held(), torch.ones(4))
    assert torch.equal(held(), torch.ones(4))
    assert log == ["away", "back", "wait", "back", "wait"]


def test_the_same_tensor_is_kept_once_and_a_changed_one_is_not_the_same() -> None:
    store, log = real_store(overlap=True)
    tensor = torch.arange(6.0).reshape(2, 3)
    first, again, turned = store.put(tensor), store.put(tensor.detach()), store.put(tensor.t())
    assert first is again
    assert turned is not first
    assert torch.equal(turned(), tensor.t())
    old = tensor.clone()
    tensor.add_(1)
    changed = store.put(tensor)
    assert changed is not first
    assert torch.equal(changed(), old + 1)
    assert log.count("away") == 3


def test_memory_that_others_use_by_now_is_not_taken_for_the_same() -> None:
    store, _ = real_store(overlap=False)
    tensor = torch.zeros(1000)
    held = store.put(tensor)
    assert held.is_of(tensor)
    other = torch.zeros(1000)
    del tensor
    assert not held.is_of(other), "its memory was freed"


def test_subclasses_of_tensors_stay() -> None:
    class Own(torch.Tensor):
        pass

    pack, _ = hooks(None, hidden_only=False)
    tensor = torch.zeros(1 << 20).as_subclass(Own)
    assert pack(tensor) is tensor
