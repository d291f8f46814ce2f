"""The web page: what it calls, what it asks of Gradio, and the real page if Gradio is installed."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from tests.helpers import make_run

from newt.commands.web import build, responder, serve, text_of
from newt.features.gradio import GradioSettings
from newt.support.errors import NewtError


class Model:
    def reply(self, messages):
        yield f"{len(messages)}: "
        yield messages[-1]["content"]


@pytest.fixture
def stub(monkeypatch):
    """A stand-in for Gradio that notes how it is called."""
    module = ModuleType("gradio")
    module.__spec__ = sys.__spec__
    module.seen = {}

    class ChatInterface:
        def __init__(self, respond, **options):
            module.seen["respond"], module.seen["options"] = respond, options

        def launch(self, **options):
            module.seen["launch"] = options
            if options["server_port"] == 1:
                raise OSError("Cannot find empty port in range: 1-1. You can specify another.")
            return None, "http://127.0.0.1:7860/", "https://x" if options["share"] else None

        def block_thread(self):
            module.seen["blocked"] = True

    module.ChatInterface = ChatInterface
    monkeypatch.setitem(sys.modules, "gradio", module)
    return module.seen


def test_the_answer_grows_and_the_history_is_read():
    respond = responder(Model().reply)
    assert list(respond("hi", [])) == ["1: ", "1: hi"]
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]
    assert list(respond({"text": "c"}, history))[-1] == "3: c"


def test_texts_in_parts():
    assert text_of("a") == text_of([{"text": "a"}]) == text_of({"text": "a", "files": []}) == "a"
    assert text_of(None) == ""


def test_only_this_machine_sees_the_page_unless_told_otherwise(stub, capsys):
    serve(Model(), make_run())
    assert stub["launch"]["server_name"] == "127.0.0.1"
    assert stub["launch"]["share"] is False
    assert stub["options"]["analytics_enabled"] is False
    assert stub["options"]["title"] == "Newt: model"
    assert stub["blocked"]
    assert capsys.readouterr().out == "The page is at http://127.0.0.1:7860/. Ctrl+C ends it.\n"


def test_the_keys_of_the_page(stub, capsys):
    keys = {"gradio_title": "Mine", "gradio_share": True, "gradio_server_name": "0.0.0.0", "gradio_server_port": 8080}
    serve(Model(), make_run(**keys))
    assert stub["options"]["title"] == "Mine"
    assert (stub["launch"]["server_name"], stub["launch"]["server_port"]) == ("0.0.0.0", 8080)
    assert "for everybody, at https://x" in capsys.readouterr().out


def test_a_taken_port_is_one_line(stub):
    with pytest.raises(NewtError, match="cannot find empty port in range: 1-1"):
        serve(Model(), make_run(gradio_server_port=1))


def test_without_gradio_the_extra_is_named(newt, write_config, monkeypatch):
    monkeypatch.setattr("newt.support.optional.find_spec", lambda name: None)
    code, _, err = newt("inference", write_config(), "--gradio")
    assert code == 2
    assert err.endswith("--gradio needs the package 'gradio': pip install 'newt-tune[gradio]'\n")


def test_the_settings_of_the_page_reach_the_model(newt, write_config, stub, monkeypatch):
    from newt.commands import inference

    made = []

    class Chat(Model):
        def __init__(self, run, **options):
            made.append(options["sampling"])

    monkeypatch.setattr(inference, "Chat", Chat)
    config = write_config(gradio_max_new_tokens=5, gradio_temperature=0.25)
    assert newt("inference", config, "--gradio")[0] == 0
    assert newt("inference", config, "--gradio", "--temperature", "0.75")[0] == 0
    assert [(one["max_new_tokens"], one["temperature"]) for one in made] == [(5, 0.25), (5, 0.75)]
    assert made[0]["top_k"] == 40


def test_the_real_page_answers_on_this_machine():
    pytest.importorskip("gradio")
    from gradio_client import Client

    page = build(Model(), "Test")
    _, address, public = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        assert public is None
        job = Client(address, verbose=False).submit("hi", api_name="/chat")
        assert job.result() == "1: hi"
        assert job.outputs()[0] == "1: "
    finally:
        page.close()


def test_defaults_are_private():
    settings = GradioSettings()
    assert (settings.gradio_share, settings.gradio_server_name) == (False, "127.0.0.1")
