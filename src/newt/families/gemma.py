"""Gemma 1, 2 and 3 (text)."""

from newt.extend import Family


class Gemma(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "gemma"
    model_types = ("gemma", "gemma2", "gemma3_text")
    isolates_packed = True
