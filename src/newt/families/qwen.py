"""Qwen 2 and 3, dense and mixture of experts."""

from newt.extend import Family


class Qwen(Family):
    """Dense decoders and mixtures of experts, whose experts are one parameter of three dimensions in each layer."""

    name = "qwen"
    model_types = ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe")
