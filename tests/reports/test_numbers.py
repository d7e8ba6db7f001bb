"""How numbers are written, as properties over all of them and as the examples a reader would check."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import numbers
from reports.numbers import Ladder, quantity, spread

LADDERS = [
    numbers.PLAIN,
    numbers.HUNDREDTHS,
    numbers.PERCENT,
    numbers.COUNT,
    numbers.BYTES,
    numbers.FLOP,
    numbers.JOULES,
    numbers.GRAMS,
    numbers.SECONDS,
    numbers.WATTS,
    numbers.HERTZ,
]
ladders = st.sampled_from(LADDERS)
positive = st.floats(1e-15, 1e15)


def parts(text: str, ladder: Ladder) -> tuple[Decimal, Decimal]:
    """The value a reader takes from `text`, and the size of its last digit, in the base unit."""
    number, _, symbol = text.replace(numbers.MINUS, "-").partition(" ")
    size = next(Decimal(repr(step.size)) for step in ladder if step.symbol == symbol)
    exponent = Decimal(number).as_tuple().exponent
    assert isinstance(exponent, int)
    return Decimal(number) * size, Decimal(1).scaleb(exponent) * size


@given(positive, ladders)
def test_what_is_read_back_is_within_half_the_last_digit(value: float, ladder: Ladder) -> None:
    read, digit = parts(quantity(value, ladder), ladder)
    assert abs(read - Decimal(value)) <= digit / 2 + Decimal(value) * Decimal("1e-14")


@given(positive, ladders)
def test_three_significant_digits_are_enough_to_tell_values_one_percent_apart(
    value: float, ladder: Ladder
) -> None:
    read, _ = parts(quantity(value, ladder), ladder)
    smallest_fixed = Decimal("1e-4") * Decimal(repr(ladder[0].size))
    assert read < smallest_fixed or abs(read / Decimal(value) - 1) <= Decimal("0.00501")


@given(positive, ladders)
def test_a_nonzero_value_never_reads_as_zero(value: float, ladder: Ladder) -> None:
    assert parts(quantity(value, ladder), ladder)[0] > 0
    assert parts(quantity(-value, ladder), ladder)[0] < 0


@given(positive, positive, ladders)
def test_order_is_kept(one: float, other: float, ladder: Ladder) -> None:
    low, high = sorted((one, other))
    assert parts(quantity(low, ladder), ladder)[0] <= parts(quantity(high, ladder), ladder)[0]


@given(st.floats(-100, 100), st.floats(1e-3, 1e3), st.floats(0, 1))
def test_a_shown_interval_holds_the_true_one_and_is_never_empty(
    value: float, further: float, nearer: float
) -> None:
    low, high = sorted((value - further, value + further * nearer))
    for interval in ((low, high), (2 * value - high, 2 * value - low)):
        shown, reach = map(Decimal, spread(value, interval).replace(numbers.MINUS, "-").split(" ± "))
        half_a_unit = Decimal(1).scaleb(reach.adjusted()) / 2
        slack = half_a_unit + reach * Decimal("1e-6") + Decimal("1e-9")
        assert reach > 0
        assert len(reach.normalize().as_tuple().digits) <= 2
        assert shown.as_tuple().exponent == reach.as_tuple().exponent
        assert shown - reach <= Decimal(interval[0]) + slack
        assert shown + reach >= Decimal(interval[1]) - slack


@given(st.floats(0.1, 1e6))
def test_the_noise_of_arithmetic_is_no_interval(value: float) -> None:
    assert spread(value, (value * (1 - 1e-15), value * (1 + 1e-15))) == spread(value)


@pytest.mark.parametrize(
    ("value", "ladder", "shown"),
    [
        (0.0123, numbers.SECONDS, "12.3 ms"),
        (0.9996, numbers.SECONDS, "1.00 s"),
        (59.98, numbers.SECONDS, "1.00 min"),
        (12_345, numbers.SECONDS, "3.43 h"),
        (4_500_000, numbers.BYTES, "4.50 MB"),
        (1.2e9, numbers.FLOP, "1.20 GFLOP"),
        (3412, numbers.JOULES, "3.41 kJ"),
        (9.57e-6, numbers.GRAMS, "9.57 µg"),
        (1234.5, numbers.PLAIN, "1234"),
        (-0.25, numbers.JOULES, "−250 mJ"),
        (0.0, numbers.SECONDS, "0 s"),
        (0.0, numbers.PERCENT, "0 %"),
        (0.2487, numbers.PERCENT, "24.9 %"),
        (1e-18, numbers.SECONDS, "1.00e-09 ns"),
    ],
)
def test_units_follow_the_size(value: float, ladder: Ladder, shown: str) -> None:
    assert quantity(value, ladder) == shown


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [
        (0.886, (0.874, 0.905), "0.89 ± 0.02"),
        (1.479, (1.460, 1.493), "1.48 ± 0.02"),
        (2.15, (2.01, 2.29), "2.15 ± 0.14"),
        (3.104, (3.054, 3.154), "3.10 ± 0.05"),
        (0.886, (0.79, 0.9), "0.89 ± 0.10"),
        (41.2, (4.2, 44.4), "40 ± 40"),
        (1.52, (1.50, 1.53), "1.52 ± 0.02"),
        (0.98, (0.99, 1.02), "0.98 ± 0.04"),
        (1.0, (1.0, 1.0), "1.00"),
        (-0.3, (-1.8, 1.2), "−0.3 ± 1.5"),
        (-2.3, (-3.8, -0.8), "−2.3 ± 1.5"),
    ],
)
def test_digits_follow_the_interval(value: float, interval: tuple[float, float], shown: str) -> None:
    assert spread(value, interval) == shown


def test_an_interval_shares_its_value_s_unit() -> None:
    assert quantity(0.0123, numbers.SECONDS, (0.0119, 0.0127)) == "12.3 ± 0.4 ms"


@pytest.mark.parametrize(("value", "shown"), [(0.0, "+0.0"), (-0.21, "−0.2"), (28, "+28.0"), (-0.04, "−0.0")])
def test_a_difference_keeps_its_sign(value: float, shown: str) -> None:
    assert numbers.signed(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0134, "1.3 %"), (0.238, "24 %"), (0.05, "5 %"), (0.0, "0 %"), (1.0, "100 %")]
)
def test_a_rough_share_has_two_digits(share: float, shown: str) -> None:
    assert numbers.percent(share) == shown


@pytest.mark.parametrize(
    ("p", "shown"), [(0.0312, "0.031"), (1.0, "1.000"), (0.0009, "< 0.001"), (0.0, "< 0.001")]
)
def test_a_p_value_is_never_zero(p: float, shown: str) -> None:
    assert numbers.p_value(p) == shown


@given(st.lists(st.floats(-100, 100), min_size=1))
def test_a_span_ends_with_the_least_and_the_greatest(values: list[float]) -> None:
    assert numbers.span(values, numbers.signed).split(" to ") in (
        [numbers.signed(min(values)), numbers.signed(max(values))],
        [numbers.signed(min(values))],
    )


def test_a_span_of_one_value_is_that_value() -> None:
    assert numbers.span([2.001, 2.002], numbers.spread) == "2.00"
    assert numbers.span([2.0, 2.5], numbers.spread) == "2.00 to 2.50"
