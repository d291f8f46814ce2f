"""GGUF files (llama.cpp's format) to a folder that transformers, and so Newt, can train.

The weights are unpacked: a GGUF file is a deployment format, and its blocks cannot be trained.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerBase

from newt.models.quiet import quiet
from newt.support.errors import NewtError
from newt.support.files import atomic_dir
from newt.support.optional import require

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Vocabularies whose digits are split one by one before the GPT-2 pattern applies. transformers leaves this out, which
# shifts token borders where two or more spaces stand before a digit.
# https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
GPT2_SPLIT = {"default", "gpt-2", "gpt2", "phi-2", "roberta-bpe", "jina-es", "jina-de", "mpt", "olmo", "jais"}

PROBES = ("Hello world! It's 12345  67.\n\n\tdef f(x):\n        1 + 2", "naïve café 你好 🙂", " leading", "trailing ")


@dataclass
class Imported:
    """What an import made.

    Attributes:
        folder: the new model folder.
        model_type: architecture, as config.json names it.
        parameters: number of parameters; tied ones are counted once.
        tokens: size of the tokenizer.
        notes: what the user should know.
    """

    folder: Path
    model_type: str
    parameters: int
    tokens: int
    notes: list[str] = field(default_factory=list)


def import_gguf(
    file: Path, folder: Path, dtype: str = "float32", progress: Callable[[str], None] = lambda line: None
) -> Imported:
    """Write a model folder (weights, config, tokenizer, chat template, generation config) from a GGUF file.

    Args:
        file: the GGUF file.
        folder: the folder to make; it may exist if it is empty.
        dtype: number type of the weights: float32, bfloat16 or float16.
        progress: called with one line for each stage.

    Raises:
        NewtError: not a GGUF file, an architecture that transformers cannot read, or a folder in use. Nothing is
            written then.
    """
    _refuse_used(folder)
    metadata = _metadata(file)
    notes: list[str] = []
    progress(f"reading the tokenizer of {file.name}")
    tokenizer = _tokenizer(file, metadata, notes)
    progress(f"unpacking {metadata.get('general.architecture')} weights to {dtype}")
    model = _model(file, DTYPES[dtype])
    _finish(model, tokenizer, metadata, notes)
    progress(f"writing {folder}")
    with atomic_dir(folder) as temporary:
        with quiet():
            model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _same_ids(tokenizer, temporary)
    return Imported(folder, model.config.model_type, model.num_parameters(), len(tokenizer), notes)


def _refuse_used(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NewtError(f"{folder} is a file: name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise NewtError(f"{folder} is not empty: name a new folder, or empty it")


def _metadata(file: Path) -> dict[str, Any]:
    """The file's keys that are not long lists.

    Raises:
        NewtError: not a readable GGUF file, or one of a split set.
    """
    gguf = require("gguf", extra="gguf", used_by="import-gguf")
    if not file.is_file():
        raise NewtError(f"{file}: there is no such file")
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise NewtError(f"{file} is not a GGUF file: it does not begin with the letters GGUF")
    try:
        reader = gguf.GGUFReader(file)
        skip = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
        found = {key: entry.contents() for key, entry in reader.fields.items() if key not in skip}
        found["tensors"] = len(reader.tensors)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise NewtError(f"{file} is damaged or cut short: {_first_line(error)}") from error
    if int(found.get("split.count", 0)) > 1:
        raise NewtError(
            f"{file} is one piece of a split model: join the pieces with llama.cpp's gguf-split --merge first"
        )
    if not found["tensors"] or "tokenizer.ggml.model" not in found:
        raise NewtError(f"{file} holds no complete model: weights or tokenizer are missing")
    return found


def _tokenizer(file: Path, metadata: dict[str, Any], notes: list[str]) -> PreTrainedTokenizerBase:
    from transformers.integrations.gguf import gguf_tokenizer_mapping

    known: Collection[str] | None = getattr(gguf_tokenizer_mapping, "GGUF_PRE_TOKENIZER_SPLITS", None)
    if known is None:  # 5.17 reads the special tokens and the spaces of some files wrongly, without a word
        raise NewtError("import-gguf needs a newer transformers: pip install 'transformers>=5.23'")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(file.parent.resolve()), gguf_file=file.name)
    except (ValueError, KeyError, OSError, NotImplementedError, AttributeError) as error:
        raise NewtError(f"{file}: transformers cannot read its tokenizer: {_first_line(error)}") from error
    kind = metadata.get("tokenizer.ggml.pre", "default")
    if metadata["tokenizer.ggml.model"] == "gpt2":
        if kind in SINGLE_DIGITS:
            backend = tokenizer.backend_tokenizer
            backend.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        elif kind not in GPT2_SPLIT and kind not in known:
            notes.append(f"the file's text splitting {kind!r} is not known here; GPT-2's is used: compare token ids")
    if not tokenizer.chat_template:
        notes.append("the file has no chat template: set chat_template in your config")
    return tokenizer


def _model(file: Path, dtype: torch.dtype) -> Any:
    try:
        # The loader's progress bar does not ask whether anybody watches.
        with quiet(), nullcontext() if sys.stderr.isatty() else redirect_stderr(StringIO()):
            return AutoModelForCausalLM.from_pretrained(
                str(file.parent.resolve()),
                gguf_file=file.name,
                dtype=dtype,
                quantization_config=GgufConfig(dequantize=True),
            )
    except (ValueError, KeyError, OSError, NotImplementedError, RuntimeError) as error:
        raise NewtError(f"{file}: transformers cannot read this model: {_first_line(error)}") from error


def _finish(model: Any, tokenizer: Any, metadata: dict[str, Any], notes: list[str]) -> None:
    """Make a plain model of what the GGUF loader gives, with the tokenizer's special ids."""
    # The loader marks the model as quantized although its weights are unpacked, and a marked one refuses
    # save_pretrained. These four are all the marks it leaves.
    model.hf_quantizer = None
    model.is_quantized = False
    model._weight_conversions = None
    for mark in ("quantization_config", "unk_token_id", "_model_name_or_path"):
        if hasattr(model.config, mark):
            delattr(model.config, mark)
    vars(model).pop("quantization_method", None)
    model.config.architectures = [type(model).__name__]
    model.generation_config._from_model_config = False
    tokenizer.model_max_length = model.config.get_text_config().max_position_embeddings
    for loading in ("is_local", "local_files_only", "gguf_file"):
        tokenizer.init_kwargs.pop(loading, None)
    eos = tokenizer.eos_token_id
    end_of_turn = metadata.get("tokenizer.ggml.eot_token_id")
    stops = [eos, int(end_of_turn)] if end_of_turn is not None and end_of_turn != eos else eos
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(tokenizer, name))
        setattr(model.generation_config, name, getattr(tokenizer, name))
    model.generation_config.eos_token_id = stops
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise NewtError(f"the tokenizer has {len(tokenizer)} tokens, but the model only {rows} embedding rows")
    if not model.config.tie_word_embeddings and model.get_output_embeddings() is None:
        notes.append("the model has no output layer")


def _same_ids(tokenizer: Any, folder: Path) -> None:
    """The written tokenizer must give the same ids as the one in memory: reloading may pick another class."""
    again: Any = AutoTokenizer.from_pretrained(folder)
    for text in (*PROBES, *(f"a {token} b" for token in tokenizer.all_special_tokens)):
        if again(text)["input_ids"] != tokenizer(text)["input_ids"]:
            raise NewtError(f"the tokenizer written to {folder} splits {text!r} in another way than the file's")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
