"""Jamba."""

from newt.extend import Family


class Jamba(Family):
    """Mamba layers with a few of attention, and experts in every other layer.

    The state of a Mamba layer runs through a row: rows are padded, not packed. Without CUDA kernels the layers are
    computed token by token, which is slow.
    """

    name = "jamba"
    model_types = ("jamba",)
