"""Mixtral."""

from newt.extend import Family


class Mixtral(Family):
    """A mixture of experts. The experts of a layer are one parameter of three dimensions.

    An adapter reaches them with ``lora_target_parameters``. Its router has a balancing loss, see ``router_loss``.
    """

    name = "mixtral"
    model_types = ("mixtral",)
