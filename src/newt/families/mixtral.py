"""Mixtral."""

from newt.extend import Family


class Mixtral(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "mixtral"
    model_types = ("mixtral",)
    isolates_packed = True
