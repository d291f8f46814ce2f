"""OpenTelemetry."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"otel_metrics_port": 9000}, "has no effect: use_otel_metrics is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"use_otel_metrics": False, "otel_metrics_host": "localhost", "otel_metrics_port": 8000},
        {"use_otel_metrics": True, "otel_metrics_port": 9000},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"use_otel_metrics": True, "otel_metrics_port": 8000}, {"use_otel_metrics"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
