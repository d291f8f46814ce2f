"""Imports without garbage collection."""

import gc

import pytest

from newt.support.imports import no_collection


def test_the_collector_pauses_and_forgets_what_was_made():
    before = gc.get_freeze_count()
    with no_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    gc.unfreeze()


def test_it_goes_on_after_an_error_and_stays_off_where_it_was_off():
    with pytest.raises(ImportError), no_collection():
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    with no_collection():
        pass
    assert not gc.isenabled()
    gc.enable()
    gc.unfreeze()
