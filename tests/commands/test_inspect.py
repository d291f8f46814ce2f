"""What newt inspect refuses."""

from __future__ import annotations


def test_rows_that_are_not_there_are_an_error(newt, write_config):
    code, out, err = newt("inspect", write_config(), "--eval")
    assert (code, out) == (2, "")
    assert "there are none; val_set_size takes rows of datasets" in err
    code, _, err = newt("inspect", write_config(), "--rows", "0")
    assert code == 2
    assert "--rows" in err
