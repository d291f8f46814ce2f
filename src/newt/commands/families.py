"""newt families: what was proved of each architecture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from newt.models.isolation import Proof

COLUMNS = {
    "full": "full",
    "lora": "LoRA",
    "dora": "DoRA",
    "qlora": "QLoRA",
    "merge": "merge",
    "fused_loss": "fused loss",
}
"""Proof -> heading."""


@click.command("families")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Print what a test proved of each model family: packing, training, adapters, merging, a fused loss.

    With NAME, a family or a model type (config.json calls it model_type), say why something is not possible.
    """
    if name:
        lines = list(details(name))
    else:
        rows = list(table())
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines += [
            "",
            "newt families NAME says why something is not possible, and under which condition it is (*).",
            "Packing is proved in these too:",
            others(),
        ]
    click.echo("\n".join(line.rstrip() for line in lines))


def table() -> Iterator[Sequence[str]]:
    """The heading, then a row for each model type that a family names."""
    from newt.models.isolation import Proof, proofs
    from newt.registry import FAMILIES

    yield ("family", "model type", "packing", *COLUMNS.values())
    for family in FAMILIES:
        for kind in family.model_types:
            proof = proofs().get(kind, Proof())
            yield (family.name, kind, packing(proof), *(_short(proof.proofs.get(key)) for key in COLUMNS))


def packing(proof: Proof) -> str:
    """How packed samples stay apart, in a word."""
    words = {"position_ids": "yes", "mask": "with a mask", None: "no"}
    if proof.attention_only and not proof.packing:
        return "without state"
    return words[proof.packing]


def _short(answer: str | None) -> str:
    return "-" if answer is None else "yes" if answer == "yes" else "yes*" if answer.startswith("yes") else "no"


def others() -> str:
    """Model types without a family in which packed samples stay apart."""
    from newt.models.isolation import proofs
    from newt.registry import FAMILIES

    named = {kind for family in FAMILIES for kind in family.model_types}
    return ", ".join(kind for kind, proof in proofs().items() if proof.packing and kind not in named)


def details(name: str) -> Iterator[str]:
    """What is known of a family or of a model type, with reasons.

    Raises:
        NewtError: there is none of this name.
    """
    from newt.config.messages import nearest
    from newt.models.isolation import proofs
    from newt.registry import FAMILIES
    from newt.support.errors import NewtError

    wanted = name.strip().lower()
    family = next((f for f in FAMILIES if wanted in (f.name, *f.model_types)), None)
    if family is None and wanted not in proofs():
        near = nearest(wanted, [*proofs(), *(f.name for f in FAMILIES)])
        hint = f"Did you mean {near}?" if near else "newt families lists them."
        raise NewtError(f"there is no family and no model type {name!r}. {hint}")
    if family is not None:
        yield f"{family.name}: {' '.join((family.__doc__ or '').replace('``', '').split())}"
        yield from (f"  {feature} cannot be used: {reason}" for feature, reason in family.unsupported.items())
    for kind in family.model_types if family and wanted == family.name else (wanted,):
        yield f"{kind}:"
        yield from (f"  {line}" for line in _facts(proofs().get(kind)))


def _facts(proof: Proof | None) -> Iterator[str]:
    if proof is None:
        yield "transformers does not know it, so nothing was proved"
        return
    apart = {"position_ids": "yes, by position_ids", "mask": "yes, with an explicit mask", None: f"no: {proof.reason}"}
    yield f"packing: {apart[proof.packing]}"
    if proof.packing:
        more = "yes" if proof.varlen else "no, it does not tell it where a sample begins"
        yield f"packing with flash attention: {more}"
    if proof.attention_only and proof.attention_only.packing:
        yield "packing of models without layers that carry a state: yes"
    yield from (f"{COLUMNS[key]}: {answer}" for key, answer in proof.proofs.items())
    if proof.no_attention:
        yield f"attention that it lacks: {', '.join(proof.no_attention)}"
    names = {"layers": ", ".join(proof.layers), "embedding": proof.embedding, "output layer": proof.head}
    names["parameters of the experts"] = ", ".join(proof.experts)
    yield from (f"{what}: {value}" for what, value in names.items() if value)


def page() -> str:
    """The same as a page of the documentation."""
    rows = list(table())
    lines = ["# Model families", ""]
    lines += [
        "What `scripts/prove_families.py` proved with tiny random models of each architecture on a CPU. `newt",
        "families` prints the same, `newt families NAME` the reasons.",
        "",
        "- *packing*: logits of packed rows equal those of single rows. *with a mask*: Newt makes an explicit one.",
        "  *without state*: in models that have no recurrent layers, with a mask.",
        "- *full*, *LoRA*, *DoRA*, *QLoRA*: the loss falls; plain peft reloads the adapter with no difference; QLoRA",
        "  computes what its 4-bit weights say, experts included, and trains on after an evaluation.",
        "- *merge*: `newt merge-lora` gives a model with the logits of base and adapter.",
        "- *fused loss*: loss and gradients are computed without the logits, and are those of the logits.",
        "- *yes\\**: under a condition, which stands below.",
        "",
    ]
    lines += [f"| {' | '.join(row)} |".replace("*", "\\*") for row in rows]
    lines.insert(-len(rows) + 1, "|" + "---|" * len(rows[0]))
    lines += ["", "## Reasons and conditions", ""]
    lines += list(_reasons())
    lines += ["", "## Packing in other architectures", "", f"{others()}."]
    return "\n".join(lines) + "\n"


def _reasons() -> Iterator[str]:
    from newt.models.isolation import proofs
    from newt.registry import FAMILIES

    for kind in (kind for family in FAMILIES for kind in family.model_types):
        proof = proofs().get(kind)
        if proof is None:
            continue
        found = {"packing": proof.reason} if not proof.packing else {}
        found |= {COLUMNS[key]: answer.rstrip(".") for key, answer in proof.proofs.items() if answer != "yes"}
        yield from (f"- {kind}, {what}: {reason.rstrip('.')}." for what, reason in found.items())
