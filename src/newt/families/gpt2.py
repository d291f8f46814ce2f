"""GPT-2."""

from newt.extend import Family


class Gpt2(Family):
    """Positions are an embedding of their own, so that ``n_positions`` tokens are the longest row.

    Linear layers are ``Conv1D``, whose weights are stored as (in, out); queries, keys and values are one, ``c_attn``.
    Embedding and output layer are one weight.
    """

    name = "gpt2"
    model_types = ("gpt2",)
