"""Saved activations outside the GPU's memory between the forward and the backward pass.

Hooks on saved tensors move what autograd keeps. With gradient checkpointing that is one hidden state for each layer.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Literal

import torch
from torch import Tensor, nn

from newt.extend import LossFn

Mode = Literal["overlap", "wait", "disk"]

LEAST_BYTES = 1 << 20
"""Smaller tensors stay: moving them costs more than it saves."""

PREFIX = "activations-"
"""Begin of the names of folders that hold activations."""

PENDING = 4
"""Tensors that may wait for the disk at one time."""


def make_store(mode: Mode, folder: Path) -> MemoryStore | DiskStore:
    """Make the place where activations wait.

    Args:
        mode: ``overlap``: the CPU's memory, copied beside the computation; ``wait``: the same without overlap;
            ``disk``: files.
        folder: where folders for files are made.
    """
    return DiskStore(folder) if mode == "disk" else MemoryStore(overlap=mode == "overlap")


def offloaded(loss: LossFn, store: Callable[[], MemoryStore | DiskStore], *, hidden_only: bool = False) -> LossFn:
    """The same loss; what its backward pass needs waits in a store.

    Args:
        loss: computes the forward pass.
        store: gives the store, always the same.
        hidden_only: move tensors of shape (batch, seq, hidden) only.
    """

    def call(model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(*hooks(store(), hidden_only)):
            return loss(model, batch, num_items)

    return call


def hooks(store: Any, hidden_only: bool) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    """Hooks that keep large activations in a store, and everything else where it is."""

    def pack(tensor: Tensor) -> Any:
        if _is_weight(tensor) or tensor.nbytes < LEAST_BYTES or (hidden_only and not _is_hidden(tensor)):
            return tensor
        return store.put(tensor.detach())

    def unpack(kept: Any) -> Tensor:
        found: Tensor = kept if isinstance(kept, Tensor) else kept()
        return found

    return pack, unpack


def _is_weight(tensor: Tensor) -> bool:
    """Weights are on the device anyway, also as views of themselves."""
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


def _is_hidden(tensor: Tensor) -> bool:
    return tensor.dim() == 3 and tensor.is_floating_point()


class MemoryStore:
    """Tensors in the CPU's memory."""

    def __init__(self, *, overlap: bool) -> None:
        """Make one.

        Args:
            overlap: copy on a CUDA stream of its own; nothing to overlap on a CPU, where a tensor stays as it is.
        """
        self.overlap = overlap
        self.streams: dict[torch.device, Any] = {}

    def put(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Keep a tensor; the result gives it back."""
        if self.overlap and tensor.is_cuda:
            return self._copy_beside(tensor)
        device, kept = tensor.device, tensor.to("cpu")
        return lambda: kept.to(device)

    def _stream(self, device: torch.device) -> Any:
        if device not in self.streams:
            self.streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return self.streams[device]

    def _copy_beside(self, tensor: Tensor) -> Callable[[], Tensor]:
        device = tensor.device
        stream = self._stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            kept = torch.empty_like(tensor, device="cpu", pin_memory=True)
            kept.copy_(tensor, non_blocking=True)
            done = stream.record_event()
        # The memory must not be given to others before the copy is made.
        tensor.record_stream(stream)

        def back() -> Tensor:
            torch.cuda.current_stream(device).wait_event(done)
            return kept.to(device, non_blocking=True)

        return back


class DiskStore:
    """Tensors in files of a folder that is removed with the process; after a crash, by the next run beside it."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, and remove those whose processes are gone."""
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        self.lock = (self.folder / "lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="activations")
        self.room = BoundedSemaphore(PENDING)
        self.count = 0
        self.close = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def put(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Keep a tensor; the result gives it back. The file goes when the result does."""
        path = self.folder / f"{self.count}.bin"
        self.count += 1
        self.room.acquire()
        return _Stored(path, tensor, self.writer.submit(self._write, path, tensor.to("cpu").contiguous()))

    def _write(self, path: Path, tensor: Tensor) -> None:
        try:
            tensor.flatten().view(torch.uint8).numpy().tofile(path)
        finally:
            self.room.release()


class _Stored:
    """A tensor in a file."""

    def __init__(self, path: Path, tensor: Tensor, written: Future[None]) -> None:
        self.path, self.written = path, written
        self.shape, self.dtype, self.device = tensor.shape, tensor.dtype, tensor.device
        weakref.finalize(self, _forget, path, written)

    def __call__(self) -> Tensor:
        """Read it."""
        self.written.result()
        count = self.shape.numel()
        return (
            torch.from_file(str(self.path), size=count, dtype=self.dtype).reshape(self.shape).to(self.device, copy=True)
        )


def _forget(path: Path, written: Future[None]) -> None:
    written.add_done_callback(lambda _: path.unlink(missing_ok=True))


def remove_abandoned(folder: Path) -> None:
    """Remove folders of activations whose process has ended without doing so: nobody holds their lock."""
    for found in folder.glob(f"{PREFIX}*"):
        try:
            with (found / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found, ignore_errors=True)
        except OSError:  # it is in use, or being removed
            continue
