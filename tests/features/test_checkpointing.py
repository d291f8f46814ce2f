"""The keys of gradient checkpointing."""

from tests.helpers import make_run, messages


def test_it_reaches_the_trainer_without_reentrance():
    args = make_run(gradient_checkpointing=True).train_plan().args
    assert args["gradient_checkpointing"] is True
    assert args["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    assert "gradient_checkpointing" not in make_run().train_plan().args


def test_the_user_may_choose_reentrance():
    args = make_run(gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True}).train_plan().args
    assert args["gradient_checkpointing_kwargs"] == {"use_reentrant": True}


def test_messages():
    assert "does not support it yet" in messages(gradient_checkpointing="offload")[0]
    assert "gradient_checkpointing is not on" in messages(gradient_checkpointing_kwargs={"use_reentrant": True})[0]
