"""Command R7B and A."""

from newt.extend import Family


class Cohere(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "cohere"
    model_types = ("cohere2",)
    isolates_packed = True
