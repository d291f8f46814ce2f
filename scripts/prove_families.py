"""Prove what Newt may do with each causal architecture, and write ``src/newt/models/proved.json`` and docs/families.md.

``--help`` tells how to restrict it, to go on with a run that was broken off, and to compare with what was written.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from measure_isolation import SEEN, TOLERANCE, VARLEN, is_causal, masks, packed_difference, register_varlen
from prove_adapters import adapter_proofs
from tiny_models import model_types, tiny_model

from newt.models.isolation import TABLE
from newt.registry import FAMILIES
from newt.rows import Isolation
from newt.support.files import write_atomically

FAILURES = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, NotImplementedError,
    AssertionError, StrictDataclassError,
)  # fmt: skip
RECURRENT = ("mamba", "delta", "rglru", "rwkv", "lstm", "lightningattention", "shortconv", "mixer")
"""Parts of class names of modules that carry a state from token to token."""


def main() -> int:
    """Prove, then write or compare; the exit code says whether the table was right."""
    options = _options()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    old = json.loads(TABLE.read_text(encoding="utf-8"))["architectures"] if TABLE.is_file() else {}
    kinds = options.kinds or [kind for kind in model_types() if kind >= options.begin]
    return _check(kinds, old) if options.check else _write(kinds, old, adapters=not options.packing)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "kinds", nargs="*", metavar="MODEL_TYPE", help="only these (default: every causal architecture)"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail where packing is not as the table says"
    )
    parser.add_argument(
        "--packing", action="store_true", help="leave the proofs about adapters, the slow ones, as they are"
    )
    parser.add_argument("--from", dest="begin", default="", metavar="MODEL_TYPE", help="go on from this one")
    return parser.parse_args()


def _check(kinds: Sequence[str], old: Mapping[str, Any]) -> int:
    stale = []
    for kind in kinds:
        entry = isolation_proof(kind)
        print(kind, json.dumps(entry), flush=True)
        stale += [] if _agrees(entry, old.get(kind, {})) else [kind]
    print(f"not as the table says: {', '.join(stale)}" if stale else "the table is right")
    return int(bool(stale))


def _write(kinds: Sequence[str], old: Mapping[str, Any], *, adapters: bool) -> int:
    """Written after each, so that a run that was broken off goes on with ``--from``."""
    known = set(model_types())
    found = {kind: entry for kind, entry in old.items() if kind in known}
    for kind in kinds:
        found[kind] = prove(kind, None if adapters else found.get(kind, {}).get("proofs"))
        print(kind, json.dumps(found[kind]), flush=True)
        table = {"transformers": transformers.__version__, "architectures": dict(sorted(found.items()))}
        write_atomically(TABLE, json.dumps(table, indent=1) + "\n")
    return 0


def _agrees(entry: dict[str, Any], old: dict[str, Any]) -> bool:
    keys = ("packing", "attention", "varlen", "kinds")
    return all(entry.get(key) == old.get(key) for key in keys)


def prove(kind: str, proofs: dict[str, str] | None = None) -> dict[str, Any]:
    """The entry of one architecture.

    Args:
        kind: model type.
        proofs: what is known of adapters; None: they are tried, where a family names the model type.
    """
    entry = isolation_proof(kind)
    model = _try(lambda: tiny_model(kind))
    if isinstance(model, str):
        return entry
    if entry["packing"] is None and (kinds := _attention_only(_text(model))):
        entry["attention_only"] = isolation_proof(kind, layer_types=kinds)
    if proofs is None and any(kind in family.model_types for family in FAMILIES):
        proofs = adapter_proofs(kind, needed_inputs(kind))
    return {**entry, **names(model), "proofs": proofs or {}}


def needed_inputs(kind: str) -> dict[str, Any]:
    """Inputs of zeros that a family adds to every batch."""
    family = next((family for family in FAMILIES if kind in family.model_types), None)
    return dict.fromkeys(family.zeros if family else ())


def isolation_proof(kind: str, **keys: Any) -> dict[str, Any]:
    """How packed samples stay apart: tried with ``position_ids`` alone, then with masks."""
    models = {name: _try(lambda name=name: tiny_model(kind, name, **keys)) for name in ("eager", "sdpa")}
    if isinstance(models["eager"], str):
        return {"packing": None, "reason": f"no tiny model of it can be built ({models['eager']})"}
    built = {name: model for name, model in models.items() if not isinstance(model, str)}
    blind = _try(lambda: packed_difference(built["eager"], None))
    if isinstance(blind, str):
        return {"packing": None, "reason": f"it does not compute logits from text alone ({blind})"}
    if not is_causal(built["eager"]):
        return {"packing": None, "reason": "tokens see those after them, as its config stands"}
    if blind < SEEN:
        return {"packing": None, "reason": "its samples hardly see each other when they should, so nothing is proved"}
    apart = [name for name, model in built.items() if _holds(model, Isolation())]
    if apart:
        return {"packing": "position_ids", "attention": apart, "varlen": _varlen(kind, **keys)}
    return _mask_proof(kind, built, keys)


def _mask_proof(kind: str, built: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    for number, (keys, _) in enumerate(masks(_text(built["eager"]), additive=True)):
        apart = []
        for name, model in built.items():
            isolation = list(masks(_text(model), additive=name == "eager"))[number][1]
            if _holds(model, isolation):
                apart.append(name)
        if apart:
            kinds = {"kinds": dict(keys)} if keys else {}
            return {"packing": "mask", "attention": apart, "varlen": _varlen(kind, **changed), **kinds}
    return {"packing": None, "reason": _why(built["eager"])}


def _attention_only(config: Any) -> list[str]:
    """The layers of a hybrid without those that carry a state, if it may be built so; else nothing."""
    settable = "layer_types" in config.to_dict()
    return ["full_attention"] * config.num_hidden_layers if settable and config.layer_types else []


def _text(model: Any) -> Any:
    return getattr(model.config, "text_config", None) or model.config


def _why(model: Any) -> str:
    classes = {type(module).__name__ for module in model.modules()}
    stateful = sorted(name for name in classes if any(part in name.lower() for part in RECURRENT))
    if stateful:
        answer = _try(lambda: packed_difference(model, Isolation("seq_idx")))
        more = "" if isinstance(answer, float) else "; with seq_idx it asks for CUDA kernels, which is not proved"
        return f"the state of its {stateful[0]} layers runs on from one sample into the next{more}"
    if "position_ids" not in signature(model.forward).parameters:
        return "it takes no position_ids, so the positions of a sample go on from those of the one before"
    return "packed logits differ from those of single samples, even with a mask"


def _varlen(kind: str, **keys: Any) -> bool:
    model = _try(lambda: tiny_model(kind, VARLEN, **keys))
    if isinstance(model, str) or not type(model)._supports_flash_attn:
        return False
    blind = _try(lambda: packed_difference(model, None))
    return isinstance(blind, float) and blind > SEEN and _holds(model, Isolation())


def _holds(model: Any, isolation: Isolation) -> bool:
    found = _try(lambda: packed_difference(model, isolation))
    return isinstance(found, float) and found < TOLERANCE


def _try(action: Callable[[], Any]) -> Any:
    """What the action gives, or the first line of its error."""
    try:
        return action()
    except FAILURES as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def names(model: Any) -> dict[str, Any]:
    """Names that sharding, checkpointing and adapters need."""
    modules = {id(module): name for name, module in model.named_modules()}
    head = model.get_output_embeddings()
    experts = [name for name, parameter in model.named_parameters() if parameter.ndim == 3 and "expert" in name]
    kind = type(model)
    flags = {"sdpa": kind._supports_sdpa, "flex": kind._supports_flex_attn, "flash": kind._supports_flash_attn}
    return {
        "own_attention": model.config._attn_implementation,
        "no_attention": [name for name, supported in flags.items() if not supported],
        "layers": _layers(model),
        "embedding": modules.get(id(model.get_input_embeddings()), ""),
        "head": modules.get(id(head), "") if head is not None else "",
        "experts": sorted({name.rpartition(".")[2] for name in experts}),
    }


def _layers(model: Any) -> Iterable[str]:
    present = {type(module).__name__ for module in model.modules()}
    return sorted(present & set(model._no_split_modules or ()))


register_varlen()

if __name__ == "__main__":
    sys.exit(main())
