"""Positions that jump."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from newt.data.skips import skipping_positions


@given(
    st.integers(1, 60),
    st.integers(0, 100),
    st.integers(1, 6),
    st.lists(st.integers(0, 9), max_size=3).map(lambda cuts: cuts or None),
    st.integers(0, 10),
)
def test_positions_rise_from_zero_and_stay_in_the_context(length, more, chunks, cuts, seed):
    random = np.random.default_rng(seed)
    ids = random.integers(0, 10, length)
    positions = skipping_positions(ids, length + more, chunks, cuts, random)
    assert positions[0] == 0
    assert len(positions) == length
    assert (np.diff(positions) >= 1).all()
    assert positions[-1] < length + more
    jumps = np.flatnonzero(np.diff(positions) > 1) + 1
    assert (jumps >= 2).all()
    allowed = np.flatnonzero(np.isin(ids, cuts)) if cuts else np.arange(1, chunks) * length // chunks
    assert set(jumps) <= set(allowed)


def test_the_whole_context_is_reached():
    ids = np.arange(20)
    last = [skipping_positions(ids, 100, 2, None, np.random.default_rng(seed))[-1] for seed in range(2000)]
    assert min(last) == 19
    assert max(last) == 99
    assert 55 < np.mean(last) < 63  # the jump is uniform between 0 and 80
