"""StarCoder 2."""

from newt.extend import Family


class Starcoder(Family):
    """Dense decoders with biases and LayerNorm, and, as released, a sliding window of 4,096 tokens."""

    name = "starcoder"
    model_types = ("starcoder2",)
