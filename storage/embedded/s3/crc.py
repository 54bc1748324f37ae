"""CRC-32C and CRC-64/NVME, the checksums that the standard library lacks.

A long buffer is cut into lanes that numpy advances together, a byte of each at a time; what they
come to is then folded in pairs. Short ones go byte by byte.
"""

from functools import cache
from typing import Any, Protocol

LANE_BYTES = 64
MIN_LANES, MAX_LANES = 16, 1024


class Digest(Protocol):
    """A running checksum, as hashlib has them."""

    def update(self, data: bytes, /) -> None:
        """Take in more."""

    def digest(self) -> bytes:
        """The checksum so far."""


class Crc:
    """A reflected CRC with all bits set before and inverted after, as both of these are."""

    def __init__(self, polynomial: int, bits: int) -> None:
        self._polynomial, self._bits = polynomial, bits
        self._mask = (1 << bits) - 1
        self._state = self._mask

    def update(self, data: bytes, /) -> None:
        """Take in more."""
        view = memoryview(data)
        while (lanes := _lanes(len(view))) >= MIN_LANES:
            block, view = view[: lanes * LANE_BYTES], view[lanes * LANE_BYTES :]
            self._state = _block(self._polynomial, self._state, block, lanes)
        table, state = _table(self._polynomial), self._state
        for byte in view:
            state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
        self._state = state

    def digest(self) -> bytes:
        """The checksum so far, big-endian."""
        return (self._state ^ self._mask).to_bytes(self._bits // 8)


def crc32c() -> Crc:
    """Castagnoli's, as iSCSI and S3 have it."""
    return Crc(0x82F63B78, 32)


def crc64nvme() -> Crc:
    """The 64-bit CRC of the NVM Express specification, S3's default today."""
    return Crc(0x9A6C9329AC4BC9B5, 64)


def _lanes(size: int) -> int:
    """The largest power of two of lanes that fit, at most `MAX_LANES`."""
    whole = size // LANE_BYTES
    return min(1 << (whole.bit_length() - 1), MAX_LANES) if whole else 0


def _block(polynomial: int, state: int, block: memoryview, lanes: int) -> int:
    import numpy as np

    table = np.array(_table(polynomial), dtype=np.uint64)
    columns = np.frombuffer(block, dtype=np.uint8).reshape(lanes, LANE_BYTES).T.astype(np.uint64)
    # The state so far is as if it had been part of the first bytes.
    for place in range(8):
        columns[place, 0] ^= np.uint64((state >> (8 * place)) & 0xFF)
    low, byte = np.uint64(0xFF), np.uint64(8)
    found = np.zeros(lanes, dtype=np.uint64)
    for column in columns:
        found = _taken(table, (found ^ column) & low) ^ (found >> byte)
    length = LANE_BYTES
    while len(found) > 1:
        found = _advanced(found[0::2], _zeros(polynomial, length)) ^ found[1::2]
        length *= 2
    return int(found[0])


def _advanced(states: Any, tables: Any) -> Any:
    """States after as many zero bytes as `tables` stand for."""
    import numpy as np

    low, result = np.uint64(0xFF), 0
    for place in range(8):
        result = result ^ _taken(tables[place], (states >> np.uint64(8 * place)) & low)
    return result


def _taken(table: Any, places: Any) -> Any:
    # Indexing with unsigned numbers would convert them first, at twice the time.
    return table.take(places.view("int64"), mode="clip")


@cache
def _zeros(polynomial: int, length: int) -> Any:
    """What each byte of a state becomes by `length` zero bytes: 8 tables of 256."""
    import numpy as np

    shifts = np.arange(8, dtype=np.uint64)[:, None] * np.uint64(8)
    states = np.arange(256, dtype=np.uint64)[None, :] << shifts
    if length > 1:
        half = _zeros(polynomial, length // 2)
        return _advanced(_advanced(states, half), half)
    table = np.array(_table(polynomial), dtype=np.uint64)
    return _taken(table, states & np.uint64(0xFF)) ^ (states >> np.uint64(8))


@cache
def _table(polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return tuple(table)
