"""SmolLM3."""

from newt.extend import Family


class SmolLm(Family):
    """Every fourth layer has no rotary positions: packed samples stay apart through the mask alone."""

    name = "smollm"
    model_types = ("smollm3",)
