"""OLMo 1 to 3."""

from newt.extend import Family


class Olmo(Family):
    """OLMo 3 has a sliding window in three of four layers; OLMoE is a mixture of experts."""

    name = "olmo"
    model_types = ("olmo", "olmo2", "olmo3", "olmoe")
