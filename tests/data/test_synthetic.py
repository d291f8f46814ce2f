"""Sources of random rows."""

from newt.data.synthetic import random_rows


def source(**change):
    return random_rows("random", **{"rows": 5, "tokens": 8, "ids": range(10, 50), "seed": 1, **change})


def test_any_part_of_the_rows_is_the_same_as_in_the_whole():
    ((reader, start, stop, first),) = source()._pieces
    assert (start, stop, first) == (0, 5, 0)
    part = [row for chunk in reader.chunks(2, 5, 2, 2) for row in chunk.rows()]
    assert part == list(source())[2:]
    chunks = list(reader.chunks(0, 5, 0, 2))
    assert [(chunk.first, len(chunk)) for chunk in chunks] == [(0, 2), (2, 2), (4, 1)]


def test_length_columns_and_fingerprint():
    assert len(source()) == 5
    assert source().columns == ("input_ids",)
    assert source().fingerprint == source().fingerprint
    changes = [{"rows": 6}, {"tokens": 9}, {"ids": range(10, 51)}, {"seed": 2}]
    assert len({source(**change).fingerprint for change in [{}, *changes]}) == 5
