"""How a model's weights come into memory, and by whose code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import PositiveInt

from newt.config.core import Model
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class LoadingSettings(Section):
    """Keys of loading."""

    coming: ClassVar[frozenset[str]] = frozenset(
        {"max_memory", "gpu_memory_limit", "experimental_skip_move_to_device", "use_kernels"}
    )

    cls_model_config: str | None = None
    """Class of transformers that reads config.json. Default: AutoConfig."""
    device_map: str | int | dict[str, Any] | None = None
    """Where the layers go. Default, and ``auto`` on one device: all on the device of the process."""
    max_memory: dict[str | int, Any] | None = None
    """Memory that each device may hold when the layers are spread, such as ``{0: 20GiB, cpu: 64GiB}``."""
    gpu_memory_limit: PositiveInt | str | None = None
    """The same number for every GPU: GiB, or text such as ``20GiB``."""
    low_cpu_mem_usage: bool | None = None
    """Accepted for compatibility: weights are always read without a second copy in memory."""
    experimental_skip_move_to_device: bool = True
    """Leave the model on the CPU until it is sharded."""
    use_kernels: bool | None = None
    """Take faster layers from the Hub's kernels where there are some."""


class Loading(Feature):
    """Refuses a placement that Newt would not follow."""

    name = "loading"
    Settings = (LoadingSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always."""
        return True

    def check(self) -> Iterable[Problem]:
        """One way to limit memory, a placement that can be had, and a word about foreign code."""
        settings, facts = self.cfg[LoadingSettings], self.facts
        if settings.max_memory and settings.gpu_memory_limit:
            yield self.problem(("gpu_memory_limit", "max_memory"), "cannot be used with max_memory.", "Remove one.")
        if settings.cls_model_config not in (None, "AutoConfig"):
            yield self.not_yet("cls_model_config", settings.cls_model_config, "Remove it: AutoConfig finds the class.")
        if settings.device_map not in (None, {}, "auto"):
            yield self.not_yet("device_map", str(settings.device_map), "Remove it.")
        elif settings.device_map == "auto" and facts.gpus > 1:
            hint = "Remove it: one process for each GPU trains faster."
            yield self.not_yet("device_map", "one model spread over several GPUs", hint)
        if self.cfg[Model].trust_remote_code:
            message = "code that comes with the model will be run."
            yield self.problem("trust_remote_code", message, "Read it before.", kind="warning")
        yield from self._check_stored()

    def _check_stored(self) -> Iterable[Problem]:
        """Weights that are stored in few bits have no gradient, so only an adapter can be trained on them."""
        found = (self.facts.model or {}).get("quantization_config")
        if not isinstance(found, Mapping) or self.cfg.value("model_quantization_config"):
            return
        method = found.get("quant_method", "unknown method")
        if not self.cfg.value("adapter"):
            hint = "Set adapter: lora, or take the checkpoint that is not quantized."
            message = f"its weights are quantized ({method}) and cannot be trained."
            yield self.problem(("base_model", "adapter"), message, hint)
        else:
            hint = "Take the checkpoint that is not quantized."
            yield self.not_yet("base_model", f"a checkpoint with quantized weights ({method})", hint)
