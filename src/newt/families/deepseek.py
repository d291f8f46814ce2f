"""DeepSeek 2 and 3."""

from newt.extend import Family


class Deepseek(Family):
    """Latent attention: queries and keys have other head sizes than values. The router balances itself by a bias."""

    name = "deepseek"
    model_types = ("deepseek_v2", "deepseek_v3")
