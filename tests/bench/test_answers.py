"""Rows that were right, packed into a document."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.answers import changed, packed

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=70)


@given(ANSWERS)
def test_what_changed_is_counted_as_on_the_rows_themselves(rows: list[tuple[bool, bool]]) -> None:
    before, after = ([row[side] for row in rows] for side in (0, 1))
    gained = sum(not one and other for one, other in rows)
    lost = sum(one and not other for one, other in rows)
    assert changed(packed(before), packed(after)) == (gained, lost)


def test_the_first_row_is_the_highest_bit() -> None:
    assert packed([True, False, False, False, False, True]) == "84"
    assert packed([]) == ""
