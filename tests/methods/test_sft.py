"""Supervised fine-tuning is what happens when nothing else is asked for."""

from tests.helpers import make_run


def test_it_is_the_default_and_fills_the_loss():
    run = make_run()
    assert run.method.name == "sft"
    plan = run.train_plan()
    assert plan.loss.by == "sft"


def test_its_loss_is_the_mean_over_all_trained_tokens(model_dir):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir)
    ids = torch.tensor([[5, 6, 7, 8]])
    labels = torch.tensor([[-100, -100, 7, 8]])
    loss = make_run().train_plan().loss.get()(model, {"input_ids": ids, "labels": labels}, 2)
    logits = model(input_ids=ids).logits[0].log_softmax(-1)
    assert torch.allclose(loss, -(logits[1, 7] + logits[2, 8]) / 2, atol=1e-6)
