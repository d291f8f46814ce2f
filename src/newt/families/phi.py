"""Phi 1 to 4."""

from newt.extend import Family


class Phi(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "phi"
    model_types = ("phi", "phi3")
    isolates_packed = True
