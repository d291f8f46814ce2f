"""Where weights come from and go to."""

import pytest
from tests.helpers import make_run
from tests.models.tiny import load

from newt.extend import Facts
from newt.features.loading import Loading, in_bytes
from newt.support.errors import NewtError

NONE = Facts()
TWO = Facts(known=True, gpus=2, capability=(9, 0))
ONE = Facts(known=True, gpus=1, capability=(9, 0))
COMING = "is known, but Newt does not support it yet."
STORED = Facts(known=True, model={"model_type": "llama", "quantization_config": {"quant_method": "awq"}})


def stored(method, packages=None, **more):
    model = {"model_type": "llama", "quantization_config": {"quant_method": method, **more}}
    return Facts(known=True, packages=packages or {}, model=model)


LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


LIMIT = "is no amount of memory. For example 20GiB."
CPU = Facts(known=True)


@pytest.mark.parametrize(
    ("facts", "keys", "expected"),
    [
        (NONE, {"cls_model_config": "LlamaConfig"}, []),
        (ONE, {"device_map": "auto"}, []),
        (ONE, {"device_map": "balanced"}, []),
        (ONE, {"device_map": {"": 0}}, []),
        (ONE, {"device_map": "cuda:0"}, []),
        (ONE, {"device_map": {"": 1}}, ["device_map: layers cannot be on 1: the whole model is trained on the GPU."]),
        (ONE, {"device_map": {"model": 0, "lm_head": "cpu"}}, ["device_map: layers cannot be on cpu: the whole model"]),
        (TWO, {"device_map": "auto"}, [f"device_map: one model spread over several GPUs {COMING}"]),
        (CPU, {"device_map": "cpu"}, []),
        (CPU, {"device_map": {"": 0}}, ["device_map: layers cannot be on 0: the whole model is trained on the CPU"]),
        (NONE, {"low_cpu_mem_usage": True}, []),
        (NONE, {"low_cpu_mem_usage": False}, []),
        (ONE, {"gpu_memory_limit": 20}, []),
        (ONE, {"gpu_memory_limit": "20GiB"}, []),
        (ONE, {"gpu_memory_limit": "much"}, [f"gpu_memory_limit: 'much' {LIMIT}"]),
        (CPU, {"gpu_memory_limit": 20}, ["gpu_memory_limit: has no effect: there is no GPU."]),
        (NONE, {"max_memory": {0: "10GB", "cpu": "64GB"}}, []),
        (NONE, {"max_memory": {0: "ten"}}, [f"max_memory.0: 'ten' {LIMIT}"]),
        (ONE, {"max_memory": {0: "9GB"}, "gpu_memory_limit": 2}, ["gpu_memory_limit: cannot be used with max_memory"]),
        (NONE, {"experimental_skip_move_to_device": True}, []),
        (NONE, {"experimental_skip_move_to_device": False}, []),
        (CPU, {"use_kernels": True}, ["use_kernels: needs a GPU, and there is none."]),
        (ONE, {"use_kernels": True}, ["use_kernels: needs the package kernels. Install it: pip install kernels."]),
        (Facts(known=True, gpus=1, capability=(9, 0), packages={"kernels": "0.18.2"}), {"use_kernels": True}, []),
        (NONE, {"use_kernels": False}, []),
        (NONE, {"trust_remote_code": False}, []),
        (NONE, {"trust_remote_code": True}, ["trust_remote_code: code that comes with the model will be run."]),
        (STORED, {}, ["base_model: its weights are quantized (awq) and cannot be trained."]),
        (STORED, LORA, ["base_model: its weights are quantized (awq), and reading them needs the package gptqmodel."]),
        (stored("awq", packages={"gptqmodel": "7.6"}), LORA, []),
        (stored("hqq"), LORA, ["base_model: its weights are quantized (hqq), which transformers 5 cannot read."]),
        (
            stored("mxfp8"),
            LORA,
            ["base_model: its weights are stored as mxfp8. Set model_quantization_config: FineGrai"],
        ),
        (
            stored("compressed-tensors"),
            LORA,
            ["base_model: its weights are stored as compressed-tensors. Set model_quantization_config: Compressed"],
        ),
        (stored("gptq"), LORA, ["base_model: its weights are quantized (gptq). Set gptq: true."]),
        (
            stored("bitsandbytes"),
            LORA,
            ["base_model: its weights are quantized (bitsandbytes). Set load_in_4bit: true."],
        ),
        (
            stored("bitsandbytes", load_in_8bit=True),
            LORA,
            ["base_model: its weights are quantized (bitsandbytes). Set load_in_8bit: true."],
        ),
        (
            stored("fp8"),
            LORA,
            ["base_model: its weights are stored as fp8. Set model_quantization_config: FineGrained"],
        ),
        (Facts(known=True, model={"model_type": "llama"}), {}, []),
    ],
)
def test_rules(facts, keys, expected):
    run = make_run(facts, **keys)
    found = [str(problem) for part in run.parts if isinstance(part, Loading) for problem in part.check()]
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("20GiB", 20 * 2**30), ("1.5 GB", 1_500_000_000), (4096, 4096), ("512kb", 512_000), ("x", None), ("-3GB", None)],
)
def test_amounts_of_memory(amount, expected):
    assert in_bytes(amount) == expected


def test_a_model_that_is_larger_than_its_limit_is_refused(model_dir):
    with pytest.raises(NewtError, match=r"max_memory: the weights take 0\.00 GiB, and 0\.00 GiB are allowed"):
        load(model_dir, max_memory={"cpu": "100KB"})
    load(model_dir, max_memory={"cpu": "1MB"})


def test_kernels_reach_the_loader():
    assert make_run(use_kernels=True).load_plan().kwargs["use_kernels"] is True
    assert "use_kernels" not in make_run().load_plan().kwargs


def test_the_class_of_the_config(model_dir):
    assert load(model_dir, cls_model_config="LlamaConfig").model.config.model_type == "llama"
    with pytest.raises(NewtError, match=r"cls_model_config: .*no config class LamaConfig\. Did you mean LlamaConfig\?"):
        load(model_dir, cls_model_config="LamaConfig")


def test_foreign_code_is_a_warning():
    assert [problem.kind for problem in make_run(trust_remote_code=True).problems()] == ["warning"]


def test_a_revision_of_a_folder_has_no_effect(model_dir):
    def said(source):
        run = make_run(base_model=source, revision_of_model="v2")
        return [str(problem) for part in run.parts if isinstance(part, Loading) for problem in part.check()]

    effect = "revision_of_model: has no effect: base_model is a folder, which is one revision."
    assert said(str(model_dir)) == [f"{effect} Remove it, or name the model on the Hub."]
    assert said("some/model") == []
