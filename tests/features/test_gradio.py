"""Keys of the web page."""

import pytest
from tests.helpers import complaints, make_run, unsupported


def test_everything_works():
    assert unsupported(gradio_title="x", gradio_share=True, gradio_server_port=8080, gradio_max_new_tokens=1) == set()


@pytest.mark.parametrize(
    "keys",
    [
        {"gradio_title": "x", "gradio_server_port": 8080, "gradio_temperature": 0.5},
        {"gradio_share": False, "gradio_server_name": "localhost"},
    ],
)
def test_a_page_for_this_machine_is_no_matter(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"gradio_share": True}, "gradio_share: everybody who has the address can use the model"),
        ({"gradio_server_name": "0.0.0.0"}, "gradio_server_name: every machine that reaches 0.0.0.0 can use"),
    ],
)
def test_a_page_for_others_is_a_warning(keys, text):
    found = list(make_run(**keys).problems())
    assert [problem.kind for problem in found] == ["warning"]
    assert str(found[0]).startswith(text)
