"""gpt-oss."""

from newt.extend import Family


class GptOss(Family):
    """Attention with sinks: eager, flex on a GPU, or flash; sdpa cannot compute it.

    It makes its masks without position_ids, so that packed samples get explicit ones: for its full layers, and for
    those with a sliding window. The experts are one parameter of three dimensions with a bias; the checkpoints hold
    them in MXFP4.
    """

    name = "gpt_oss"
    model_types = ("gpt_oss",)
