"""OLMo 3."""

from newt.extend import Family


class Olmo(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "olmo"
    model_types = ("olmo3",)
    isolates_packed = True
