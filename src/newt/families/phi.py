"""Phi 1 to 4."""

from newt.extend import Family


class Phi(Family):
    """Phi 3 and 4 hold queries, keys and values in one linear layer (``qkv_proj``), gate and up in another."""

    name = "phi"
    model_types = ("phi", "phi3", "phimoe")
