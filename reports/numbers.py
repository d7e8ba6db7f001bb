"""How every number is written: three significant digits, or the digits its interval supports."""

from __future__ import annotations

from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"
MOST_DECIMALS = 6
Interval = tuple[float, float]


@dataclass(frozen=True)
class Step:
    """One unit of a ladder: how much of the base unit it is, and its symbol."""

    size: float
    symbol: str


Ladder = tuple[Step, ...]
"""The units a quantity may be written in, smallest first."""


def si(unit: str, prefixes: str) -> Ladder:
    """The ladder of `unit` under one-letter SI `prefixes`, smallest first; a space is no prefix."""
    powers = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, " ": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    return tuple(Step(powers[prefix], (prefix + unit).strip()) for prefix in prefixes)


PLAIN: Ladder = (Step(1.0, ""),)
HUNDREDTHS: Ladder = (Step(0.01, ""),)
PERCENT: Ladder = (Step(0.01, "%"),)
COUNT = si("", " kMGT")
BYTES = si("B", " kMGT")
FLOP = si("FLOP", " kMGT")
JOULES = si("J", "pnµm kMG")
GRAMS = si("g", "pnµm k")
SECONDS = (*si("s", "nµm "), Step(60.0, "min"), Step(3600.0, "h"))


def quantity(value: float, ladder: Ladder, interval: Interval | None = None) -> str:
    """`value` (in the base unit) as `12.3 ms`, with an interval as `12.3 ± 0.4 ms` or `12.3 [11.9, 14.0] ms`.

    ± is written only where the interval is nearly symmetric about the value.
    """
    step = _step(value, ladder)
    scaled = (interval[0] / step.size, interval[1] / step.size) if interval else None
    return f"{spread(value / step.size, scaled)} {step.symbol}".rstrip()


def spread(value: float, interval: Interval | None = None) -> str:
    """The bare number: three significant digits, or as many as the width of `interval` supports."""
    if interval is None or interval[0] == interval[1] == value:
        return _fixed(value, _decimals(value, 3) if value else 0)
    decimals = _supported_decimals(value, interval)
    if nearly_symmetric(value, interval):
        return f"{_fixed(value, decimals)} ± {_fixed((interval[1] - interval[0]) / 2, decimals)}"
    return f"{_fixed(value, decimals)} [{', '.join(bounds(value, interval))}]"


def bounds(value: float, interval: Interval) -> tuple[str, str]:
    """The ends of `interval`, to the digits it supports for `value`."""
    decimals = _supported_decimals(value, interval)
    low, high = (_fixed(round(end, decimals), decimals) for end in interval)
    return low, high


def signed(value: float, interval: Interval) -> str:
    """The value alone with its sign, to the digits `interval` supports."""
    return ("+" if value > 0 else "") + _fixed(value, _supported_decimals(value, interval))


def nearly_symmetric(value: float, interval: Interval) -> bool:
    """Whether ± half the width says the same as the interval: its sides differ by a quarter at most."""
    near, far = sorted((value - interval[0], interval[1] - value))
    return near > 0 and far <= 1.25 * near


def _step(value: float, ladder: Ladder) -> Step:
    # Rounded first, so that 999.9 ms is written as 1.00 s.
    fitting = [step for step in ladder if float(f"{abs(value) / step.size:.2e}") >= 1]
    if fitting:
        return fitting[-1]
    return ladder[0] if value else min(ladder, key=lambda step: abs(step.size - 1.0))


def _decimals(number: float, digits: int) -> int:
    """How many decimals show `digits` significant digits of `number`."""
    exponent = int(f"{number:.{digits - 1}e}".partition("e")[2])
    return min(MOST_DECIMALS, max(0, digits - 1 - exponent))


def _supported_decimals(value: float, interval: Interval) -> int:
    """Decimals for an uncertainty: two digits of it where it starts with a 1 or is lopsided, else one."""
    half = (interval[1] - interval[0]) / 2
    leading = float(f"{half:e}".partition("e")[0])
    digits = 1 if leading >= 1.95 and nearly_symmetric(value, interval) else 2
    # A value is never rounded to nothing, however wide its interval.
    return max(_decimals(half, digits), _decimals(value, 1) if value else 0)


def _fixed(number: float, decimals: int) -> str:
    text = f"{abs(number):.{decimals}f}"
    if number and not float(text):
        text = f"{abs(number):.2e}"
    return f"{MINUS if number < 0 else ''}{text}"
