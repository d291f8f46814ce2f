"""GLM 4."""

from newt.extend import Family


class Glm(Family):
    """Half of each head is rotated.

    GLM 4.5 is a mixture of experts, whose router chooses with the help of a bias that stays as it is. Names of layers
    such as ``down_proj`` mean experts too: DoRA, which experts cannot have, wants ``lora_target_modules``.
    """

    name = "glm"
    model_types = ("glm", "glm4", "glm4_moe")
