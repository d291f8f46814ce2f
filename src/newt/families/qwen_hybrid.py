"""Qwen 3 Next and Qwen 3.5."""

from newt.extend import Family


class QwenHybrid(Family):
    """Three of four layers are gated delta nets, whose state runs through a row: rows are padded, not packed."""

    name = "qwen hybrid"
    model_types = ("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text")
