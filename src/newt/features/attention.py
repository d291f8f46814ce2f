"""Which attention implementation runs."""

from __future__ import annotations

from collections.abc import Iterable

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

FLAGS = {
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "flex_attention": "flex_attention",
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}
"""The older flags, the first that is set wins."""

SUPPORTED = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")
SHORT = {"flash": "flash_attention_2", "flex": "flex_attention", "sdp": "sdpa"}
_FLASH = {"flash_attention_2": "flash-attn", "flash_attention_3": "flash-attn-3"}


class AttentionSettings(Section):
    """Keys of attention."""

    attn_implementation: str | None = None
    """eager, sdpa, flex_attention, flash_attention_2 or flash_attention_3. Default: what the model prefers (sdpa)."""
    flash_attention: bool | None = None
    """Older spelling of ``attn_implementation: flash_attention_2``."""
    sdp_attention: bool | None = None
    """Older spelling of ``attn_implementation: sdpa``."""
    flex_attention: bool | None = None
    """Older spelling of ``attn_implementation: flex_attention``."""
    xformers_attention: bool | None = None
    """Older spelling of ``attn_implementation: xformers``."""
    eager_attention: bool | None = None
    """Older spelling of ``attn_implementation: eager``."""
    sage_attention: bool | None = None
    """Older spelling of ``attn_implementation: sage``."""


class Attention(Feature):
    """Selects the implementation, and refuses one that cannot run here."""

    name = "attention"
    Settings = (AttentionSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always."""
        return True

    def check(self) -> Iterable[Problem]:
        """One way to say it, a known name, and the hardware and package that it needs."""
        flags = [flag for flag in FLAGS if getattr(self.cfg[AttentionSettings], flag)]
        key = "attn_implementation" if self.cfg[AttentionSettings].attn_implementation else (flags or [""])[0]
        if flags and key == "attn_implementation":
            yield self.problem((flags[0], key), "cannot be used with attn_implementation.", f"Remove {flags[0]}.")
        if flags and key != "attn_implementation":
            yield from self._check_flags(flags)
        name = self.implementation()
        if name in SHORT:
            yield self.problem(key, f"{name} is not a name that transformers knows.", f"Write {SHORT[name]}.")
        elif name in ("xformers", "sage", "fp8") or (name and "/" in name):
            yield self.not_yet(key, str(name), "Use attn_implementation: sdpa.")
        elif name and name not in SUPPORTED:
            yield self.problem(key, f"unknown implementation {name!r}.", f"Valid: {', '.join(SUPPORTED)}.")
        elif self.facts.known:
            yield from self._check_machine(key, name)

    def _check_flags(self, flags: list[str]) -> Iterable[Problem]:
        """The older flags still work; the first of several wins."""
        chosen = flags[0]
        hint = f"Write attn_implementation: {FLAGS[chosen]}."
        yield self.problem(chosen, "is an older spelling.", hint, kind="warning")
        for flag in flags[1:]:
            yield self.problem(flag, f"has no effect: {chosen} goes first.", "Remove it.", kind="warning")

    def _check_machine(self, key: str, name: str | None) -> Iterable[Problem]:
        if name in _FLASH and not self.facts.gpus:
            yield self.problem(key, f"{name} needs a GPU, and there is none.", "Use attn_implementation: sdpa.")
        elif name in _FLASH and _FLASH[name] not in self.facts.packages:
            yield self.problem(key, f"{name} needs the package {_FLASH[name]}.", "Install it, or use sdpa.")
        elif name == "flex_attention" and not self.facts.gpus:
            yield self.problem(
                key, "flex_attention cannot train on a CPU (it has no backward pass there).", "Use sdpa."
            )

    def implementation(self) -> str | None:
        """Name for transformers, or None for the model's own choice."""
        settings = self.cfg[AttentionSettings]
        if settings.attn_implementation:
            return settings.attn_implementation
        return next((name for flag, name in FLAGS.items() if getattr(settings, flag)), None)

    def plan_load(self, plan: LoadPlan) -> None:
        """Pass the name to ``from_pretrained``."""
        if name := self.implementation():
            plan.kwargs.fill(by=self.name, attn_implementation=name)
