"""A seal detects every flipped bit, and does not disturb readers of JSON."""

from __future__ import annotations

import msgspec
import pytest

from s3downloader.store.recovery.sealing import is_intact, is_sealed, seal, unseal

BODY = b'{"download_id":"d-1","size":7}'


def test_a_sealed_text_is_the_same_json() -> None:
    sealed = seal("d-1", BODY)
    assert msgspec.json.decode(sealed) == msgspec.json.decode(BODY)
    assert unseal(sealed) == BODY
    assert is_intact("d-1", sealed)


def test_a_text_without_a_seal_is_taken_as_it_is() -> None:
    assert not is_sealed(BODY)
    assert unseal(BODY) == BODY


@pytest.mark.parametrize("key", ["", "d-2", "D-1", "\ud800"])
def test_a_seal_is_of_its_row_alone(key: str) -> None:
    assert not is_intact(key, seal("d-1", BODY))


def test_no_flipped_bit_passes() -> None:
    sealed = seal("d-1", BODY)
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        if is_sealed(bytes(flipped)):
            assert not is_intact("d-1", bytes(flipped))
        else:
            with pytest.raises(msgspec.DecodeError):
                msgspec.json.decode(flipped, type=msgspec.Raw)


@pytest.mark.parametrize("cut", range(1, 32))
def test_a_seal_that_was_cut_does_not_pass(cut: int) -> None:
    assert not is_intact("d-1", seal("d-1", BODY)[:-cut])
