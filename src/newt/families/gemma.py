"""Gemma 1 to 4."""

from newt.extend import Family


class Gemma(Family):
    """The text models. Gemma 2 caps its attention scores, which sdpa cannot: it has eager and flex attention.

    Gemma 4 has heads of 512 numbers in its global layers, more than flash attention computes, and must be checkpointed
    without ``use_reentrant``: its layers share keys and values.
    """

    name = "gemma"
    model_types = ("gemma", "gemma2", "gemma3_text", "gemma4_text", "gemma4_unified_text")
