"""DeepSeek 2 and 3."""

from newt.extend import Family


class Deepseek(Family):
    """Latent attention: queries and keys have other head sizes than values.

    The router of DeepSeek 3 chooses experts with the help of a bias that stays as it is. Names of layers such as
    ``down_proj`` mean experts too: DoRA, which experts cannot have, wants ``lora_target_modules``.
    """

    name = "deepseek"
    model_types = ("deepseek_v2", "deepseek_v3")
