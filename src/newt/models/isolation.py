"""What was proved of each architecture, and how the samples of a packed row are kept apart in it. Free of torch.

``proved.json`` is made by ``scripts/prove_families.py``: each causal architecture of transformers is built tiny, and
its packed logits are compared with those of single samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from newt.rows import Isolation

TABLE = Path(__file__).with_name("proved.json")

OLDER: Mapping[str, tuple[str, ...]] = {"doge": ("eager",), "llama4": (), "llama4_text": (), "moshi": ()}
"""Attention that keeps samples apart in older releases of transformers than the table's, where it is less than there:
measured with the oldest supported one."""

STATELESS = {"attention", "full_attention"}
"""Kinds of layers that hybrids have besides those with a state."""


@dataclass(frozen=True)
class Proof:
    """What was proved of one architecture.

    Attributes:
        packing: how packed samples stay apart: ``position_ids``, ``mask``, or None where they do not.
        reason: why they do not.
        attention: implementations in which they do (``eager``, ``sdpa``).
        varlen: implementations that find the samples by ``position_ids`` themselves, as flash attention does, get them.
        kinds: kind of layer -> config key of its sliding window, or None; the architecture wants a mask for each.
        attention_only: the same for a hybrid that is built without layers that carry a state.
        own_attention: the implementation that it chooses itself.
        no_attention: what it lacks of ``sdpa``, ``flex`` and ``flash``.
        layers: names of the decoder layer classes, which are sharded and checkpointed as a whole.
        embedding: name of the input embedding.
        head: name of the output layer.
        experts: names of parameters that hold all experts of a layer, three-dimensional.
        proofs: what else was tried (``full``, ``lora``, ``dora``, ``qlora``, ``merge``, ``fused_loss``) -> "yes", "yes"
            with a condition, or why not.
    """

    packing: str | None = None
    reason: str = ""
    attention: tuple[str, ...] = ()
    varlen: bool = False
    kinds: Mapping[str, str | None] = field(default_factory=dict)
    attention_only: Proof | None = None
    own_attention: str = ""
    no_attention: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    embedding: str = ""
    head: str = ""
    experts: tuple[str, ...] = ()
    proofs: Mapping[str, str] = field(default_factory=dict)


@cache
def proved_with() -> str:
    """The release of transformers that the table was made with."""
    return str(json.loads(TABLE.read_text(encoding="utf-8"))["transformers"])


@cache
def proofs() -> Mapping[str, Proof]:
    """Model type -> what was proved."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))["architectures"]
    return {kind: _proof(entry) for kind, entry in table.items()}


def _proof(entry: Mapping[str, Any]) -> Proof:
    tuples = ("attention", "no_attention", "layers", "experts")
    values: dict[str, Any] = {key: tuple(value) if key in tuples else value for key, value in entry.items()}
    if "attention_only" in values:
        values["attention_only"] = _proof(values["attention_only"])
    return Proof(**values)


def isolation(model: Mapping[str, Any], attention: str | None, release: str | None = None) -> Isolation | str:
    """How the samples of a packed row stay apart, or why they do not.

    Args:
        model: the model's config.json.
        attention: name of the attention implementation; None: the model's own choice.
        release: the installed transformers; None: that of the table.
    """
    kind = str(model.get("model_type"))
    proof = proofs().get(kind)
    if proof is None:
        return f"it is not proved that packed samples stay apart in {kind} models."
    own = proof.own_attention
    kinds = model.get("layer_types") or model.get("layers_block_type") or ()
    if proof.attention_only and kinds and STATELESS.issuperset(kinds):
        proof = proof.attention_only
    if proof.packing is None:
        return f"packed samples do not stay apart in {kind} models: {proof.reason}."
    if release and kind in OLDER and (attention or own) not in OLDER[kind] and _is_older(release):
        return f"packed samples do not stay apart in {kind} models of transformers {release}: get {proved_with()}."
    if attention not in (None, "eager", "sdpa", "flex_attention"):
        return Isolation() if proof.varlen else f"{kind} models do not tell {attention} where a packed sample begins."
    if proof.packing == "position_ids":
        return Isolation()
    name = attention or own
    if name not in proof.attention:
        return f"{kind} models need a mask for it, which is proved with {' and '.join(proof.attention)} attention only."
    values = {**model, **(model.get("text_config") or {})}
    windows = {layer: values.get(key) if key else None for layer, key in proof.kinds.items()}
    return Isolation("mask", windows, additive=name == "eager")


def _is_older(release: str) -> bool:
    """Whether a release of transformers is older than that of the table."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(".")[:2]]

    return numbers(release) < numbers(proved_with())


def lacks(model_type: str | None, attention: str) -> bool:
    """Whether an architecture is known to lack an attention implementation."""
    proof = proofs().get(str(model_type))
    name = {"sdpa": "sdpa", "flex_attention": "flex"}.get(attention, "flash" if attention.startswith("flash") else "")
    return proof is not None and name in proof.no_attention
