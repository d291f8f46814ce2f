"""Falcon."""

from newt.extend import Family


class Falcon(Family):
    """It makes its mask without position_ids, so that packed samples get an explicit one.

    Flash attention is not told where a sample begins: packing is refused with it. bitsandbytes quantizes none of
    its linear layers, which are of a class of their own: there is no QLoRA.
    """

    name = "falcon"
    model_types = ("falcon",)
