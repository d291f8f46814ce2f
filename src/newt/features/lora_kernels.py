"""Fused LoRA: base layer and adapter are computed in one step, with a backward pass written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.core import Model
from newt.config.section import Config, Problem, Section
from newt.extend import Feature

KEYS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel")


class LoraKernelSettings(Section):
    """Keys of fused LoRA. Nothing is switched on by itself."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    lora_mlp_kernel: bool | None = None
    """Fuse the adapters of gate, up and down projection."""
    lora_qkv_kernel: bool | None = None
    """Fuse the adapters of query, key and value."""
    lora_o_kernel: bool | None = None
    """Fuse the adapter of the attention's output projection."""
    lora_embedding_kernel: bool | None = None
    """Fuse the adapter of the embedding."""


class LoraKernels(Feature):
    """Where they fit, they change the speed and not the result; where they do not fit, they are refused."""

    name = "lora kernels"
    Settings = (LoraKernelSettings,)
    off = "no LoRA kernel is on"
    switches = KEYS

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys is."""
        return any(getattr(cfg[LoraKernelSettings], key) for key in KEYS)

    def check(self) -> Iterable[Problem]:
        """A LoRA adapter on a model, a number format and a device that the kernels know."""
        key = next(key for key in KEYS if getattr(self.cfg[LoraKernelSettings], key))
        value = self.cfg.value
        if value("adapter") not in ("lora", "qlora"):
            yield self.problem((key, "adapter"), "needs a LoRA adapter.", "Set adapter: lora, or remove it.")
        if value("adapter") == "lora" and value("load_in_8bit"):
            yield self.problem((key, "load_in_8bit"), "cannot be used with load_in_8bit.", "Remove one.")
        if self.cfg[Model].trust_remote_code:
            hint = "Remove one: the layers of such a model are not known."
            yield self.problem((key, "trust_remote_code"), "cannot be used with trust_remote_code.", hint)
        if self.facts.known and not self.facts.gpus:
            yield self.problem(key, "needs a GPU, and there is none.", "Remove it.")
        if self.facts.gpus > 1 and (value("fsdp") or value("fsdp_config")) and str(value("fsdp_version")) == "1":
            yield self.problem((key, "fsdp_version"), "cannot be used with FSDP 1.", "Set fsdp_version: 2.")
