"""What a model says that needs code of its own."""

import pytest

from newt.models.foreign_code import refuse_foreign_code
from newt.support.errors import NewtError


def test_only_the_wish_for_code_is_translated():
    refuse_foreign_code(OSError("no such file"), "base_model", "org/name")
    with pytest.raises(NewtError, match=r"^tokenizer_config: org/name needs Python code .* trust_remote_code: true$"):
        refuse_foreign_code(ValueError("Please pass\n`trust_remote_code=True`"), "tokenizer_config", "org/name")
