"""Which rows a variant got right, kept in a run document so that later runs can be compared row by row."""

from __future__ import annotations

from collections.abc import Sequence


def packed(right: Sequence[bool]) -> str:
    """The rows' answers as hexadecimal digits, four rows a digit, the first in the highest bit."""
    bits = "".join("1" if each else "0" for each in right)
    padded = bits.ljust(-(-len(bits) // 4) * 4, "0")
    return "".join(f"{int(padded[start : start + 4], 2):x}" for start in range(0, len(padded), 4))


def changed(before: str, after: str) -> tuple[int, int]:
    """Rows that only `after`, and rows that only `before` got right; both packed, of the same rows."""
    assert len(before) == len(after), "not the same rows"
    earlier, later = int(before or "0", 16), int(after or "0", 16)
    return (later & ~earlier).bit_count(), (earlier & ~later).bit_count()
