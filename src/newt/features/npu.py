"""What Ascend NPUs cannot do. There is no key: an NPU is there when torch-npu is installed and no GPU is found."""

from __future__ import annotations

from collections.abc import Iterable

from newt.config.section import Config, Problem
from newt.extend import Feature

PACKAGE = "torch-npu"

_ON = {
    "load_in_4bit": "bitsandbytes does not run there.",
    "load_in_8bit": "bitsandbytes does not run there.",
    "flash_attention": "its kernels are for other devices.",
    "sdp_attention": "its kernels are for other devices.",
    "xformers_attention": "its kernels are for other devices.",
    "sage_attention": "its kernels are for other devices.",
    "tf32": "it has no TensorFloat-32.",
}
"""Key that may not be true -> why."""


class Npu(Feature):
    """Refuses what needs another device."""

    name = "npu"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always; it asks the facts."""
        return True

    def check(self) -> Iterable[Problem]:
        """No quantized weights, no optimizer of few bits, no attention kernels of other devices."""
        if self.facts.gpus or PACKAGE not in self.facts.packages:
            return
        for key, reason in _ON.items():
            if self.cfg.value(key) is True:
                yield self.problem(key, f"cannot be used on an NPU: {reason}", "Remove it.")
        attention = str(self.cfg.value("attn_implementation") or "")
        if attention in ("sdpa", "xformers", "sage") or attention.startswith("flash_attention"):
            message = f"{attention} cannot be used on an NPU: its kernels are for other devices."
            yield self.problem("attn_implementation", message, "Use attn_implementation: eager.")
        optimizer = str(self.cfg.value("optimizer") or "")
        if any(bits in optimizer for bits in ("8bit", "4bit", "bnb", "fp8")):
            message = f"{optimizer} cannot be used on an NPU: its kernels are for other devices."
            yield self.problem("optimizer", message, "Use optimizer: adamw_torch.")
