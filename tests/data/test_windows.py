"""Windows of long texts: nothing is lost, and nothing is trained twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newt.data.windows import windows

BOS, EOS = 1, 2


def cut(length, size, prefix=(BOS,)):
    """Windows of a text of ``length`` tokens 100, 101, ... and an end token, all trained."""
    ids = [*prefix, *range(100, 100 + length), EOS]
    return list(windows(ids, ids, prefix, size))


def test_a_short_text_stays_whole():
    assert cut(3, 5) == [([BOS, 100, 101, 102, EOS],) * 2]


def test_windows_begin_with_the_prefix_and_repeat_the_end_of_the_one_before():
    # size 8: 7 tokens behind the prefix, of which (8 - 1) // 2 = 3 are repeated.
    assert cut(10, 8) == [
        ([BOS, 100, 101, 102, 103, 104, 105, 106], [BOS, 100, 101, 102, 103, 104, 105, 106]),
        ([BOS, 104, 105, 106, 107, 108, 109, EOS], [-100, -100, -100, -100, 107, 108, 109, EOS]),
    ]


def test_at_most_256_tokens_are_repeated():
    first, second = cut(1500, 1024, prefix=())
    assert first[0][-256:] == second[0][:256]
    assert second[1][255:257] == [-100, second[0][256]]


@given(st.integers(0, 300), st.integers(2, 40), st.sampled_from([(), (BOS,), (BOS, 3)]))
def test_every_token_is_trained_exactly_once(length, size, prefix):
    found = cut(length, size, prefix)
    assert all(len(ids) == len(labels) <= max(size, len(prefix) + 1) for ids, labels in found)
    trained = [label for number, (_, labels) in enumerate(found) for label in labels[0 if number else len(prefix) :]]
    assert [label for label in trained if label != -100] == [*range(100, 100 + length), EOS]
    # Only the end of the text is an end: the model does not learn to stop at the border of a window.
    assert [EOS in ids for ids, _ in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_smallest_windows_end(size):
    assert len(cut(20, size)) <= 21
