"""Falcon."""

from newt.extend import Family


class Falcon(Family):
    """It makes its mask without position_ids, so that packed samples get an explicit one.

    Flash attention is not told where a sample begins: packing is refused with it.
    """

    name = "falcon"
    model_types = ("falcon",)
