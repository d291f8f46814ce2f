"""GLM 4."""

from newt.extend import Family


class Glm(Family):
    """Half of each head is rotated. GLM 4.5 is a mixture of experts whose router balances itself by a bias."""

    name = "glm"
    model_types = ("glm", "glm4", "glm4_moe")
