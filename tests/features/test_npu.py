"""What an NPU cannot do."""

import pytest
from tests.helpers import complaints

from newt.extend import Facts

NPU = Facts(known=True, packages={"torch-npu": "2.13", "bitsandbytes": "1", "flash-attn": "2"})


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"attn_implementation": "flash_attention_2"}, "attn_implementation"),
        ({"attn_implementation": "sdpa"}, "attn_implementation"),
        ({"flash_attention": True}, "flash_attention"),
        ({"sdp_attention": True}, "sdp_attention"),
        ({"optimizer": "adamw_bnb_8bit"}, "optimizer"),
        ({"optimizer": "adamw_torch_4bit"}, "optimizer"),
        ({"tf32": True}, "tf32"),
        (
            {"adapter": "qlora", "load_in_4bit": True, "lora_r": 8, "lora_alpha": 8, "lora_target_linear": True},
            "load_in_4bit",
        ),
    ],
)
def test_refused_there_and_only_there(keys, key):
    def about(facts):
        return [text for text in complaints(facts, **keys) if text.startswith(key) and "on an NPU" in text]

    assert len(about(NPU)) == 1
    assert about(Facts(known=True)) == []
    assert about(Facts(known=True, gpus=1, capability=(9, 0), packages=NPU.packages)) == []


def test_an_ordinary_config_is_fine():
    assert complaints(NPU, attn_implementation="eager", optimizer="adamw_torch") == []
