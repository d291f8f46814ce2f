"""GLM 4."""

from newt.extend import Family


class Glm(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "glm"
    model_types = ("glm4",)
    isolates_packed = True
