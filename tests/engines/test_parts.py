"""How objects are divided into parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s3downloader.engines.ranged.parts import layout_of

MIB = 1 << 20
SIZES = st.integers(1, 1 << 45)


@given(
    size=st.integers(1, 1 << 12),
    part_size=st.integers(1, 1 << 13),
    block=st.none() | st.integers(1, 1 << 13),
)
def test_parts_cover_the_object_in_order_within_its_blocks(
    size: int, part_size: int, block: int | None
) -> None:
    layout = layout_of(size, part_size=part_size, block=block)
    at = 0
    for index in range(len(layout)):
        start, length = layout.start(index), layout.length(index)
        assert start == at
        assert 0 < length <= part_size
        if block:
            assert start // block == (start + length - 1) // block
        assert layout.index(start) == layout.index(start + length - 1) == index
        at += length
    assert at == size


@given(SIZES)
def test_the_size_of_parts_is_chosen_by_that_of_the_object(size: int) -> None:
    layout = layout_of(size)
    assert 8 * MIB <= layout.part <= 64 * MIB
    assert len(layout) <= 256 or layout.part == 64 * MIB
    assert layout.part == 8 * MIB or len(layout) > 128


@given(size=SIZES, blocks=st.integers(1, 10_000))
def test_blocks_are_cut_evenly(size: int, blocks: int) -> None:
    block = -(-size // blocks)
    layout = layout_of(size, block=block)
    assert layout.part <= 64 * MIB
    assert layout.part >= min(block, 4 * MIB)
