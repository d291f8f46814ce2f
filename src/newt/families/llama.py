"""Llama and the many models that share its code."""

from newt.extend import Family


class Llama(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "llama"
    model_types = ("llama",)
    isolates_packed = True
