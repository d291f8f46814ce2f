"""Saved activations outside the GPU's memory between the forward and the backward pass.

Hooks on saved tensors move what autograd keeps: one hidden state for each layer where layers are computed again, all
activations where they are not.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from newt.extend import LossFn

if TYPE_CHECKING:
    from newt.models.cpu_weights import LayerWeights

Mode = Literal["overlap", "wait", "disk"]

LEAST_BYTES = 1 << 20
"""Smaller tensors stay: moving them costs more than it saves."""

PREFIX = "activations-"
"""Begin of the names of folders that hold activations."""

LAST = 4
"""Tensors that stay on the device too: the last that were put there are the first that the backward pass wants."""

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


def offloaded(
    loss: LossFn,
    store: Callable[[], MemoryStore | DiskStore] | None,
    *,
    hidden_only: bool = False,
    weights: Callable[[], LayerWeights | None] = lambda: None,
) -> LossFn:
    """The same loss; what its backward pass needs waits in a store.

    Args:
        loss: computes the forward pass.
        store: gives the store, always the same; None: activations stay.
        hidden_only: move tensors of shape (batch, seq, hidden) only.
        weights: gives the layers whose weights come and go, if there are some.
    """

    def call(model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int) -> Tensor:
        place = None if store is None else store()
        with torch.autograd.graph.saved_tensors_hooks(*hooks(place, hidden_only, weights())):
            return loss(model, batch, num_items)

    return call


def hooks(
    store: Any, hidden_only: bool, weights: LayerWeights | None = None
) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    """Hooks that keep large activations in a store, weights as what they are, and everything else where it is."""

    def pack(tensor: Tensor) -> Any:
        if _is_weight(tensor):
            return (weights and weights.keep(tensor)) or tensor
        # Subclasses, such as those of a compiler or of sharded tensors, have no memory of their own to move.
        if store is None or type(tensor) is not Tensor or tensor.nbytes < LEAST_BYTES:
            return tensor
        return tensor if hidden_only and not _is_hidden(tensor) else store.put(tensor.detach())

    def unpack(kept: Any) -> Tensor:
        found: Tensor = kept if isinstance(kept, Tensor) else kept()
        return found

    return pack, unpack


def _is_weight(tensor: Tensor) -> bool:
    """Weights are on the device anyway, also as views of themselves."""
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


def _is_hidden(tensor: Tensor) -> bool:
    return tensor.dim() == 3 and tensor.is_floating_point()


class Copies:
    """Copies between a device and the CPU's memory that the computation waits for; on a CPU nothing is copied."""

    def away(self, tensor: Tensor) -> Tensor:
        """Copy to the CPU's memory."""
        return tensor.to("cpu")

    def back(self, kept: Tensor, device: torch.device) -> tuple[Tensor, Any]:
        """Begin to copy to the device; the second value is what :meth:`wait` waits for."""
        return kept.to(device), None

    def wait(self, tensor: Tensor, copied: Any) -> None:
        """Wait for a copy to the device before the computation reads it."""


class CopiesBeside(Copies):
    """The same on a CUDA stream of its own, beside the computation."""

    def __init__(self, device: torch.device) -> None:
        """Make one for a CUDA device."""
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def away(self, tensor: Tensor) -> Tensor:
        """Begin to copy to the CPU's pinned memory."""
        self.stream.wait_stream(torch.cuda.current_stream(tensor.device))
        kept = torch.empty_like(tensor, device="cpu", pin_memory=True)
        with torch.cuda.stream(self.stream):
            kept.copy_(tensor, non_blocking=True)
        # The memory must not be given to others before the copy is made.
        tensor.record_stream(self.stream)
        return kept

    def back(self, kept: Tensor, device: torch.device) -> tuple[Tensor, Any]:
        """Begin to copy to the device: after the copy away, which is on the same stream."""
        with torch.cuda.stream(self.stream):
            return kept.to(device, non_blocking=True), self.stream.record_event()

    def wait(self, tensor: Tensor, copied: Any) -> None:
        """Let the computation wait, not this process."""
        current = torch.cuda.current_stream(tensor.device)
        current.wait_event(copied)
        tensor.record_stream(current)


class _Waiting:
    """A tensor in the CPU's memory and, at the begin and at the end of its wait, on the device too."""

    def __init__(self, tensor: Tensor, store: MemoryStore, earlier: _Waiting | None) -> None:
        self.store, self.device = store, tensor.device
        self.earlier = weakref.ref(earlier) if earlier else None
        reference: Any = StorageWeakRef
        self.source, self.version = reference(tensor.untyped_storage()), tensor._version
        self.here: Tensor | None = tensor
        self.copied: Any = None
        self.copies = store.copies(tensor.device)
        self.kept = self.copies.away(tensor)

    def is_of(self, tensor: Tensor) -> bool:
        """Whether it holds this tensor's values: its memory was not freed since, and not written to."""
        return not self.source.expired() and self.version == tensor._version

    def fetch(self) -> Tensor:
        """Begin to copy to the device, if it is not there."""
        found = self.here
        if found is None:
            found, self.copied = self.copies.back(self.kept, self.device)
            self.here = found
            self.store.stays(self)
        return found

    def __call__(self) -> Tensor:
        """The tensor on its device; the one that was put before it is wanted next."""
        found = self.fetch()
        if self.copied is not None:
            self.copies.wait(found, self.copied)
            self.copied = None
        earlier = self.earlier() if self.earlier else None
        if not self.store.overlap:
            self.here = None
        elif earlier is not None:
            earlier.fetch()
        return found


class MemoryStore:
    """Tensors in the CPU's memory. What is put twice, as the input of several layers often is, is kept once."""

    def __init__(self, *, overlap: bool) -> None:
        """Make one.

        Args:
            overlap: copy on a CUDA stream of its own, leave the last :data:`LAST` tensors on the device too, and fetch
                one ahead; on a CPU a tensor stays as it is.
        """
        self.overlap = overlap
        self.beside: dict[torch.device, Copies] = {}
        self.known: WeakValueDictionary[tuple[Any, ...], _Waiting] = WeakValueDictionary()
        self.recent: deque[weakref.ref[_Waiting]] = deque()

    def put(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Keep a tensor; the result gives it back."""
        place = tensor.untyped_storage()._cdata, tensor.storage_offset()
        key = (*place, tensor.dtype, tensor.size(), tensor.stride())
        found = self.known.get(key)
        if found is None or not found.is_of(tensor):
            found = self.known[key] = _Waiting(tensor, self, self.recent[-1]() if self.recent else None)
            self.stays(found)
        return found

    def stays(self, waiting: _Waiting) -> None:
        """Leave a tensor on the device as one of the last, and let go of the first of them."""
        self.recent = deque(held for held in self.recent if (other := held()) is not None and other is not waiting)
        self.recent.append(weakref.ref(waiting))
        while len(self.recent) > (LAST if self.overlap else 0):
            gone = self.recent.popleft()()
            if gone is not None and gone.copied is None:
                gone.here = None

    def copies(self, device: torch.device) -> Copies:
        """What moves tensors of a device."""
        if device not in self.beside:
            self.beside[device] = CopiesBeside(device) if self.overlap and device.type == "cuda" else Copies()
        return self.beside[device]


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
