"""How a model's weights come into memory, and by whose code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from newt.config.core import Model
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan
from newt.models.stored import READ_BY, refusal

SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")
"""Placements that transformers computes; on one device all of them are that device."""
ASKS = {"gptq": "gptq", "bitsandbytes": "load_in_4bit"}
"""How weights are stored -> the key that says so."""
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


class LoadingSettings(Section):
    """Keys of loading."""

    cls_model_config: str | None = None
    """Class of transformers that reads config.json. Default: AutoConfig."""
    device_map: str | int | dict[str, Any] | None = None
    """Where the layers go. Default, and ``auto`` on one device: all on the device of the process."""
    max_memory: dict[str | int, Any] | None = None
    """Memory that the weights may take on each device, such as ``{0: 20GiB, cpu: 64GiB}``; a GPU's is also the limit of
    the whole run."""
    gpu_memory_limit: PositiveInt | str | None = None
    """The same number for every GPU: GiB, or text such as ``20GiB``."""
    low_cpu_mem_usage: bool | None = None
    """Accepted for compatibility: weights are always read without a second copy in memory."""
    experimental_skip_move_to_device: bool = True
    """Leave the model where it was loaded until training begins. ``false``: move it to the GPU at once."""
    use_kernels: bool | None = None
    """Take faster layers from the Hub's kernels where there are some. Needs a GPU and the package kernels."""


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
        settings = self.cfg[LoadingSettings]
        if settings.max_memory and settings.gpu_memory_limit:
            yield self.problem(("gpu_memory_limit", "max_memory"), "cannot be used with max_memory.", "Remove one.")
        yield from self._check_limit()
        yield from self._check_map()
        yield from self._check_kernels()
        if self.cfg[Model].trust_remote_code:
            message = "code that comes with the model will be run."
            yield self.problem("trust_remote_code", message, "Read it before.", kind="warning")
        yield from self._check_stored()
        model = self.cfg[Model]
        if model.revision_of_model and Path(model.base_model).expanduser().is_dir():
            message = "has no effect: base_model is a folder, which is one revision."
            yield self.problem("revision_of_model", message, "Remove it, or name the model on the Hub.")

    def _check_limit(self) -> Iterable[Problem]:
        settings = self.cfg[LoadingSettings]
        for key, value in (*(settings.max_memory or {}).items(), ("gpu_memory_limit", settings.gpu_memory_limit)):
            name = key if key == "gpu_memory_limit" else f"max_memory.{key}"
            if value is not None and in_bytes(value) is None:
                yield self.problem(name, f"{value!r} is no amount of memory.", "For example 20GiB.")
        if settings.gpu_memory_limit and self.facts.known and not self.facts.gpus:
            yield self.problem("gpu_memory_limit", "has no effect: there is no GPU.", "Remove it.", kind="warning")

    def _check_map(self) -> Iterable[Problem]:
        """On one device there is one placement, however it is written; layers that lie elsewhere are not trained."""
        wanted, facts = self.cfg[LoadingSettings].device_map, self.facts
        places = set(wanted.values()) if isinstance(wanted, dict) else {wanted} - {None}
        if not places or not facts.known:
            return
        if facts.gpus > 1 and places & set(SPREAD):
            hint = "Remove it: one process for each GPU trains faster."
            yield self.not_yet("device_map", "one model spread over several GPUs", hint)
            return
        own = {0, "0", "cuda", "cuda:0"} if facts.gpus else {"cpu"}
        for place in sorted(map(str, places - own - set(SPREAD))):
            device = "the GPU" if facts.gpus else "the CPU, as there is no GPU"
            message = f"layers cannot be on {place}: the whole model is trained on {device}."
            yield self.problem("device_map", message, "Remove it.")

    def _check_kernels(self) -> Iterable[Problem]:
        if not self.cfg[LoadingSettings].use_kernels or not self.facts.known:
            return
        if not self.facts.gpus:
            yield self.problem("use_kernels", "needs a GPU, and there is none.", "Remove it.")
        elif "kernels" not in self.facts.packages:
            yield self.problem("use_kernels", "needs the package kernels.", "Install it: pip install kernels.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Hold the model to its memory, and move it at once if asked for."""
        settings = self.cfg[LoadingSettings]
        if settings.max_memory or settings.gpu_memory_limit:
            plan.prepare_base.append(lambda model, _: _hold_to(model, settings))
        if not settings.experimental_skip_move_to_device:
            plan.prepare.append(_move)
        if "causal-conv1d" in self.facts.packages:
            plan.prepare_base.append(_try_conv)
        if settings.use_kernels:
            plan.kwargs.fill(by=self.name, use_kernels=True)

    def _check_stored(self) -> Iterable[Problem]:
        """Weights that are stored in few bits have no gradient, so only an adapter can be trained on them."""
        found = (self.facts.model or {}).get("quantization_config")
        asked = any(self.cfg.value(key) for key in (*ASKS.values(), "load_in_8bit", "model_quantization_config"))
        if not isinstance(found, Mapping) or asked:
            return
        method = str(found.get("quant_method", "unknown method"))
        if not self.cfg.value("adapter"):
            hint = "Set adapter: lora, or take the checkpoint that is not quantized."
            message = f"its weights are quantized ({method}) and cannot be trained."
            yield self.problem(("base_model", "adapter"), message, hint)
        elif method in ASKS:
            key = "load_in_8bit" if found.get("load_in_8bit") else ASKS[method]
            yield self.problem(("base_model", key), f"its weights are quantized ({method}).", f"Set {key}: true.")
        elif method in READ_BY:
            hint = f"Set model_quantization_config: {READ_BY[method]}."
            yield self.problem(
                ("base_model", "model_quantization_config"), f"its weights are stored as {method}.", hint
            )
        elif wrong := refusal(found, self.facts.packages, bool(self.cfg.value("bf16") or self.cfg.value("bfloat16"))):
            yield self.problem("base_model", *wrong)


def in_bytes(amount: Any) -> int | None:
    """Bytes of an amount of memory, such as ``20GiB`` or a number of bytes; None if it is none."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B|)\s*", str(amount).upper())
    return int(float(found[1]) * UNITS[found[2]]) if found else None


def _limit(settings: LoadingSettings, gpu: bool) -> tuple[str, int] | None:
    """The key that limits the device of this process, and its bytes."""
    if gpu and settings.gpu_memory_limit:
        amount = settings.gpu_memory_limit
        return "gpu_memory_limit", in_bytes(f"{amount}GiB" if str(amount).isdigit() else amount) or 0
    for name in (0, "0", "cuda:0") if gpu else ("cpu",):
        if name in (settings.max_memory or {}):
            return "max_memory", in_bytes((settings.max_memory or {})[name]) or 0
    return None


def _hold_to(model: Any, settings: LoadingSettings) -> None:
    """Refuse a model that is too large for its limit; on a GPU, the whole run is held to it."""
    import torch

    from newt.models.kbit import holdings
    from newt.support.errors import NewtError

    gpu = torch.cuda.is_available()
    found = _limit(settings, gpu)
    if found is None:
        return
    key, limit = found
    needed = holdings(model)[2]
    if needed > limit:
        raise NewtError(
            f"{key}: the weights take {needed / 2**30:.2f} GiB, and {limit / 2**30:.2f} GiB are allowed. Raise it, or "
            "load them in fewer bits (load_in_4bit: true)"
        )
    if gpu:
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / torch.cuda.get_device_properties(0).total_memory))


def _try_conv(model: Any, notes: list[str]) -> None:
    from newt.models.broken_packages import warn_of_broken_conv

    warn_of_broken_conv(model, notes)


def _move(model: Any) -> None:
    import torch

    if torch.cuda.is_available():
        model.to("cuda")
