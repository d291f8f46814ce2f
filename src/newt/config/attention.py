"""What the keys of attention say, for Parts whose batches depend on it."""

from __future__ import annotations

from newt.config.section import Config

FLAGS = {
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "flex_attention": "flex_attention",
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}
"""The older flags, the first that is set wins."""

DENSE = (None, "sdpa", "sdp", "eager")
"""Attention that computes every pair of tokens of a row and masks those that must not see each other."""


def implementation(cfg: Config) -> str | None:
    """Name of the implementation, or None for the model's own choice (sdpa or eager)."""
    chosen: str | None = cfg.value("attn_implementation")
    if chosen is None and cfg.value("gemma4_hybrid_attn_impl"):
        return "flash_attention_2"
    return chosen or next((name for flag, name in FLAGS.items() if cfg.value(flag)), None)


def is_varlen(cfg: Config) -> bool:
    """Whether attention skips the pairs of tokens that belong to different samples of a row."""
    return implementation(cfg) not in DENSE


def is_flash(cfg: Config) -> bool:
    """Whether it is one of those that find the samples only in batches of one row."""
    return is_varlen(cfg) and implementation(cfg) not in ("flex_attention", "flex")
