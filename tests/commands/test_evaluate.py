"""The table that newt evaluate writes."""

from __future__ import annotations

from types import SimpleNamespace

from newt.commands.evaluate import write_summary
from newt.config.core import RunControl


def test_a_number_of_tokens_keeps_all_its_digits(tmp_path):
    run = SimpleNamespace(cfg={RunControl: SimpleNamespace(output_dir=str(tmp_path))})
    path = write_summary(run, {"training": {"loss": 1.25, "perplexity": 3.4903429, "tokens": 1234567.0}})
    assert path.read_text() == "metric,training,validation\nloss,1.25,\nperplexity,3.49034,\ntokens,1234567,\n"
