"""Every optimizer by name: where its class is, what it takes, and what it cannot do. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal["plain", "low_rank", "layerwise", "matrices", "fused"]

TYPES: Mapping[str, type] = {
    "amsgrad": bool, "foreach": bool, "nesterov": bool, "centered": bool, "scale_parameter": bool,
    "relative_step": bool, "bf16_stochastic_round": bool, "use_kahan_summation": bool, "kahan_sum": bool,
    "decouple_lr": bool, "silent_sgd_phase": bool, "correct_bias": bool, "scale_front": bool, "disable_nl": bool,
    "clip": bool, "min_8bit_size": int, "block_size": int, "t_alpha": int, "t_beta3": int, "rank": int,
    "update_proj_gap": int, "ns_steps": int, "proj_type": str, "proj": str, "scale_type": str, "adjust_lr_fn": str,
    "momentum_dtype": str, "variance_dtype": str, "compensation_buffer_dtype": str,
}  # fmt: skip
"""Types of ``optim_args`` that are not floating-point numbers."""


@dataclass(frozen=True)
class Entry:
    """One optimizer.

    Attributes:
        make: its class, as ``module:Class``.
        kind: ``plain``: takes parameter groups; ``low_rank``: some groups also have a rank (``target``);
            ``layerwise``: the same, and each parameter is updated as soon as its gradient is there; ``matrices``:
            matrices are updated by ``make``, all else by AdamW; ``fused``: takes the model and updates it in backward.
        fixed: arguments that the name stands for.
        args: names that ``optim_args`` may set.
        betas: defaults of ``adam_beta1``, ``adam_beta2`` and ``adam_beta3``; empty: it has none.
        eps: defaults of ``adam_epsilon`` and ``adam_epsilon2``; empty: it has none.
        target: keys of the groups that ``optim_target_modules`` names, with their defaults.
        package: what must be installed.
        extra: the extra of ours that installs it.
        capability: compute capability that a GPU must have.
        needs_gpu: it does not run on the CPU.
        no_resume: why a run cannot go on from a checkpoint; empty: it can.
        instead: the name that users should write today; empty: this one.
        also: a further package that must be installed.
        whole: why it must see all parameters at once; empty: it updates each from that one's gradient and state alone.
    """

    make: str
    kind: Kind = "plain"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    betas: tuple[float, ...] = ()
    eps: tuple[float, ...] = ()
    target: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""
    extra: str = ""
    capability: tuple[int, int] = (0, 0)
    needs_gpu: bool = False
    no_resume: str = ""
    instead: str = ""
    also: str = ""
    whole: str = ""

    @property
    def packages(self) -> tuple[str, ...]:
        """Everything that must be installed."""
        return tuple(name for name in (self.package, self.also) if name)

    @property
    def known_args(self) -> tuple[str, ...]:
        """Everything that ``optim_args`` may hold, sorted."""
        return tuple(sorted({*self.args, *self.target, *self.numbers}))

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of its betas and epsilons in ``optim_args``."""
        return tuple(f"beta{n + 1}" for n in range(len(self.betas))) + ("eps", "eps2")[: len(self.eps)]


ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": (1e-8,)}


def _bnb(name: str, **keys: Any) -> Entry:
    return Entry(
        **{"make": f"bitsandbytes.optim:{name}", "args": ("min_8bit_size",), "package": "bitsandbytes", "extra": "bnb"}
        | keys
    )


def _both(entry: Entry, **changes: Any) -> Entry:
    return replace(entry, fixed={**entry.fixed, **changes})


_ADAM8 = _bnb("AdamW", fixed={"optim_bits": 8}, **ADAM)
# The trainer of transformers gives Lion the betas of Adam; runs that were tuned with it expect the same.
_LION = _bnb("Lion", fixed={"optim_bits": 32}, betas=(0.9, 0.999))
_MIX = _bnb(
    "AdEMAMix",
    fixed={"optim_bits": 32},
    args=("alpha", "t_alpha", "t_beta3", "min_8bit_size"),
    betas=(0.9, 0.999, 0.9999),
    eps=(1e-8,),
)
_RMS = _bnb("RMSprop", fixed={"optim_bits": 32}, args=("alpha", "momentum", "min_8bit_size"), eps=(1e-8,))
_AO = Entry(
    "torchao.optim:AdamW8bit", args=("amsgrad", "block_size", "bf16_stochastic_round"), package="torchao",
    extra="torchao", **ADAM,
)  # fmt: skip
_AO4 = replace(_AO, make="torchao.optim:AdamW4bit")
_GALORE = Entry(
    "galore_torch:GaLoreAdamW", kind="low_rank", fixed={"no_deprecation_warning": True}, args=("correct_bias",),
    target={"rank": 128, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std"}, package="galore-torch",
    extra="optimizers", **ADAM,
)  # fmt: skip
# Its class calls functions that bitsandbytes no longer has, so the update is done here with today's.
_GALORE8 = replace(
    _GALORE, make="newt.training.low_rank:GaLoreAdamW8bit", fixed={}, args=("min_8bit_size",), also="bitsandbytes"
)
_GALORE_FACTOR = replace(
    _GALORE, make="galore_torch:GaLoreAdafactor", fixed={"scale_parameter": False, "relative_step": False},
    args=("clip_threshold", "decay_rate"), betas=(), eps=(),
)  # fmt: skip
_APOLLO = Entry(
    "apollo_torch:APOLLOAdamW", kind="low_rank", args=("correct_bias", "scale_front", "disable_nl"),
    target={"rank": 128, "proj": "random", "scale_type": "channel", "update_proj_gap": 200, "scale": 1.0,
            "proj_type": "std"},
    package="apollo-torch", extra="optimizers", **ADAM,
)  # fmt: skip
_FREE: dict[str, Any] = {
    "args": ("r", "weight_lr_power", "foreach"),
    "package": "schedulefree",
    "extra": "optimizers",
    "whole": "its average belongs to all weights of a step",
}
_LOMO = Entry(
    "lomo_optim:Lomo", kind="fused", args=("clip_grad_value",), package="lomo-optim", extra="optimizers",
)  # fmt: skip
_OPTIMI: dict[str, Any] = {
    "args": ("decouple_lr", "max_lr", "kahan_sum"),
    "package": "torch-optimi",
    "extra": "optimizers",
    **ADAM,
}

OPTIMIZERS: Mapping[str, Entry] = {
    "adamw_torch_fused": Entry("torch.optim:AdamW", fixed={"fused": True}, args=("amsgrad",), **ADAM),
    "adamw_torch": Entry("torch.optim:AdamW", args=("amsgrad", "foreach"), **ADAM),
    "adafactor": Entry(
        "transformers.optimization:Adafactor", fixed={"scale_parameter": False, "relative_step": False},
        args=("clip_threshold", "decay_rate", "beta1", "scale_parameter"),
    ),
    "sgd": Entry("torch.optim:SGD", args=("momentum", "dampening", "nesterov", "foreach")),
    "adagrad": Entry("torch.optim:Adagrad", args=("lr_decay", "initial_accumulator_value", "eps", "foreach")),
    "rmsprop": Entry("torch.optim:RMSprop", args=("momentum", "alpha", "eps", "centered", "foreach")),
    "adamw_torch_8bit": _AO,
    "adamw_torch_4bit": _AO4,
    "ao_adamw_8bit": replace(_AO, instead="adamw_torch_8bit"),
    "ao_adamw_4bit": replace(_AO4, instead="adamw_torch_4bit"),
    "ao_adamw_fp8": replace(_AO, make="torchao.optim:AdamWFp8", capability=(8, 9)),
    "adamw_anyprecision": Entry(
        "torchdistx.optimizers:AnyPrecisionAdamW",
        args=("use_kahan_summation", "momentum_dtype", "variance_dtype", "compensation_buffer_dtype"),
        package="torchdistx", **ADAM,
    ),
    "adamw_bnb_8bit": _ADAM8,
    "adamw_8bit": _ADAM8,
    "paged_adamw_8bit": _both(_ADAM8, is_paged=True),
    "paged_adamw_32bit": _both(_ADAM8, is_paged=True, optim_bits=32),
    "lion_32bit": _LION,
    "lion_8bit": _both(_LION, optim_bits=8),
    "paged_lion_32bit": _both(_LION, is_paged=True),
    "paged_lion_8bit": _both(_LION, is_paged=True, optim_bits=8),
    "ademamix": _MIX,
    "ademamix_8bit": _both(_MIX, optim_bits=8),
    "paged_ademamix_32bit": _both(_MIX, is_paged=True),
    "paged_ademamix_8bit": _both(_MIX, is_paged=True, optim_bits=8),
    "rmsprop_bnb": _RMS,
    "rmsprop_bnb_32bit": _RMS,
    "rmsprop_bnb_8bit": _both(_RMS, optim_bits=8),
    "galore_adamw": _GALORE,
    "galore_adamw_8bit": _GALORE8,
    "galore_adafactor": _GALORE_FACTOR,
    "galore_adamw_layerwise": replace(_GALORE, kind="layerwise"),
    "galore_adamw_8bit_layerwise": replace(_GALORE8, kind="layerwise"),
    "galore_adafactor_layerwise": replace(_GALORE_FACTOR, kind="layerwise"),
    "apollo_adamw": _APOLLO,
    "apollo_adamw_layerwise": replace(_APOLLO, kind="layerwise"),
    "lomo": _LOMO,
    "adalomo": replace(
        _LOMO, make="lomo_optim:AdaLomo", args=("clip_grad_value", "clip_threshold", "decay_rate", "loss_scale"),
        needs_gpu=True, no_resume="its package keeps its state outside of checkpoints",
    ),
    "grokadamw": Entry(
        "grokadamw:GrokAdamW", args=("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"),
        package="grokadamw", extra="optimizers",
        no_resume="its package keeps its state outside of checkpoints", whole="its momentum follows the training loss",
        **ADAM,
    ),
    "schedule_free_adamw": Entry("schedulefree:AdamWScheduleFree", **_FREE, **ADAM),
    "schedule_free_sgd": Entry("schedulefree:SGDScheduleFree", **{**_FREE, "args": (*_FREE["args"], "momentum")}),
    "schedule_free_radam": Entry(
        "schedulefree:RAdamScheduleFree", **{**_FREE, "args": (*_FREE["args"], "silent_sgd_phase")}, **ADAM
    ),
    "stable_adamw": Entry("optimi:StableAdamW", fixed={"foreach": False}, **_OPTIMI),
    "optimi_adamw": Entry("optimi:AdamW", fixed={"foreach": False}, **_OPTIMI),
    "adopt_adamw": Entry("newt.training.adopt:Adopt", args=("clip",), betas=(0.9, 0.9999), eps=(1e-6,)),
    "came_pytorch": Entry(
        "came_pytorch:CAME", args=("clip_threshold",), betas=(0.9, 0.999, 0.9999), eps=(1e-30, 1e-16),
        package="came-pytorch", extra="optimizers",
    ),
    # With this factor a matrix moves as far as AdamW would move it, so that one learning rate serves both.
    "muon": Entry(
        "torch.optim:Muon", kind="matrices", fixed={"adjust_lr_fn": "match_rms_adamw"},
        args=("momentum", "nesterov", "ns_steps", "adjust_lr_fn"), **ADAM,
    ),
    "dion": Entry(
        "newt.training.dion:Dion", kind="matrices", whole="its first factors depend on the order of the matrices",
        **ADAM,
    ),
}  # fmt: skip
"""Name -> optimizer."""
