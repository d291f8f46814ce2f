"""Where weights come from and go to."""

import pytest
from tests.helpers import make_run, messages

from newt.extend import Facts

NONE = Facts()
TWO = Facts(known=True, gpus=2, capability=(9, 0))
ONE = Facts(known=True, gpus=1, capability=(9, 0))
COMING = "is known, but Newt does not support it yet."
STORED = Facts(known=True, model={"model_type": "llama", "quantization_config": {"quant_method": "awq"}})
LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


@pytest.mark.parametrize(
    ("facts", "keys", "expected"),
    [
        (NONE, {"cls_model_config": "AutoConfig"}, []),
        (NONE, {"cls_model_config": "LlamaConfig"}, [f"cls_model_config: LlamaConfig {COMING} Remove it: AutoConfig"]),
        (ONE, {"device_map": "auto"}, []),
        (TWO, {"device_map": "auto"}, [f"device_map: one model spread over several GPUs {COMING}"]),
        (NONE, {"device_map": {"": 0}}, [f"device_map: {{'': 0}} {COMING}"]),
        (NONE, {"device_map": "cpu"}, [f"device_map: cpu {COMING}"]),
        (NONE, {"low_cpu_mem_usage": True}, []),
        (NONE, {"low_cpu_mem_usage": False}, []),
        (NONE, {"gpu_memory_limit": 20}, [f"gpu_memory_limit: {COMING}"]),
        (NONE, {"gpu_memory_limit": "20GiB"}, [f"gpu_memory_limit: {COMING}"]),
        (NONE, {"max_memory": {0: "10GB", "cpu": "64GB"}}, [f"max_memory: {COMING}"]),
        (
            NONE,
            {"max_memory": {0: "10GB"}, "gpu_memory_limit": 20},
            [
                f"max_memory: {COMING}",
                f"gpu_memory_limit: {COMING}",
                "gpu_memory_limit: cannot be used with max_memory",
            ],
        ),
        (NONE, {"experimental_skip_move_to_device": True}, []),
        (NONE, {"experimental_skip_move_to_device": False}, [f"experimental_skip_move_to_device: {COMING}"]),
        (NONE, {"use_kernels": True}, [f"use_kernels: {COMING}"]),
        (NONE, {"use_kernels": False}, []),
        (NONE, {"trust_remote_code": False}, []),
        (NONE, {"trust_remote_code": True}, ["trust_remote_code: code that comes with the model will be run."]),
        (STORED, {}, ["base_model: its weights are quantized (awq) and cannot be trained."]),
        (STORED, LORA, [f"base_model: a checkpoint with quantized weights (awq) {COMING}"]),
        (Facts(known=True, model={"model_type": "llama"}), {}, []),
    ],
)
def test_rules(facts, keys, expected):
    found = messages(facts, **keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


def test_foreign_code_is_a_warning():
    assert [problem.kind for problem in make_run(trust_remote_code=True).problems()] == ["warning"]
