"""Mistral and Ministral."""

from newt.extend import Family


class Mistral(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "mistral"
    model_types = ("mistral",)
    isolates_packed = True
