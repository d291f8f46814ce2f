"""The processor of models that read images or sound."""

import pytest
from tests.helpers import messages

COMING = "is known, but Newt does not support it yet."


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"processor_type": "AutoProcessor"}, [f"processor_type: {COMING}"]),
        ({"is_multimodal": False}, []),
        ({"is_multimodal": True}, [f"is_multimodal: {COMING}"]),
        ({"processor_kwargs": {"size": 3}}, [f"processor_kwargs: {COMING}"]),
        ({"processor_kwargs": {}}, []),
        (
            {"processor_kwargs": {"revision": "main", "trust_remote_code": True}},
            [
                f"processor_kwargs: {COMING}",
                "processor_kwargs.revision: cannot be set here. Remove it: revision_of_model says it.",
                "processor_kwargs.trust_remote_code: cannot be set here. Remove it: trust_remote_code says it.",
            ],
        ),
    ],
)
def test_rules(keys, expected):
    assert messages(**keys) == expected
