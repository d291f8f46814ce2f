"""SmolLM3."""

from newt.extend import Family


class SmolLm(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "smollm"
    model_types = ("smollm3",)
    isolates_packed = True
