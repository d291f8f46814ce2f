"""GPT-NeoX and Pythia."""

from newt.extend import Family


class GptNeox(Family):
    """The layers are ``gpt_neox.layers``, rotary positions turn a quarter of each head.

    Queries, keys and values are one linear layer, ``query_key_value``.
    """

    name = "gpt_neox"
    model_types = ("gpt_neox",)
