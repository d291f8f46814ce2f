"""Llama and the models that share its code."""

from newt.extend import Family


class Llama(Family):
    """Dense decoders; Llama 4 adds experts and, in three of four layers, attention to chunks of the text.

    Samples of a packed row stay apart through position_ids. Llama 4 tells its chunks to sdpa, eager and flex attention
    by a mask, which flash attention does not read: packing is refused with it.
    """

    name = "llama"
    model_types = ("llama", "llama4", "llama4_text")
