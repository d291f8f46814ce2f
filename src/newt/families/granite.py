"""Granite (dense)."""

from newt.extend import Family


class Granite(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "granite"
    model_types = ("granite",)
    isolates_packed = True
