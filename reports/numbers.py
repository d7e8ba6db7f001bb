"""How every number is written: three significant digits, or `value ± reach` where it has an interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, ROUND_UP, Decimal

MINUS = "\N{MINUS SIGN}"
MOST_DECIMALS = 6
NOISE = 1e-6
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
FLOP_RATE = si("FLOP/s", " kMGT")
BYTE_RATE = si("B/s", " kMGT")
JOULES = si("J", "pnµm kMG")
GRAMS = si("g", "pnµm k")
WATTS = si("W", "m k")
HERTZ = si("Hz", " kMG")
SECONDS = (*si("s", "nµm "), Step(60.0, "min"), Step(3600.0, "h"))


def quantity(value: float, ladder: Ladder, interval: Interval | None = None) -> str:
    """`value` (in the base unit) as `12.3 ms`, with an interval as `12.3 ± 0.4 ms`."""
    step = _step(value, ladder)
    scaled = (interval[0] / step.size, interval[1] / step.size) if interval else None
    return f"{spread(value / step.size, scaled)} {step.symbol}".rstrip()


def spread(value: float, interval: Interval | None = None) -> str:
    """The bare number: three significant digits, or with an interval `value ± reach`.

    The reach is the distance of the interval's further end, rounded up to one significant digit, to two
    where it begins with 1, and to no more than two decimals for values above 0.1. The value ends with it.
    """
    distance = max(value - interval[0], interval[1] - value) if interval else 0.0
    if distance <= NOISE * abs(value):
        return _fixed(value, _decimals(value, 3) if value else 0)
    reach = _rounded_up(distance, finest=-2 if abs(value) >= 0.1 else None)
    shown = Decimal(str(value)).quantize(reach, ROUND_HALF_UP)
    return f"{MINUS if shown < 0 else ''}{abs(shown):f} ± {reach:f}"


def signed(value: float) -> str:
    """The value to a tenth, always with its sign."""
    return f"{value:+.1f}".replace("-", MINUS)


def span(values: Iterable[float], write: Callable[[float], str]) -> str:
    """`3.00 to 3.20`, from the least value to the greatest; one alone where they are written alike."""
    values = list(values)
    least, greatest = write(min(values)), write(max(values))
    return least if least == greatest else f"{least} to {greatest}"


def percent(share: float) -> str:
    """A rough share: two significant digits, `1.3 %`, `24 %`, `5 %`."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def p_value(p: float) -> str:
    """A p-value to three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def counted(count: float, noun: str) -> str:
    """`1 epoch`, `3 epochs`."""
    return f"{count:g} {noun}" + ("" if count == 1 else "s")


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


def _rounded_up(number: float, finest: int | None) -> Decimal:
    """`number` up to one digit, two from 1 on, but to no lower power of ten than `finest`."""
    # Read to seven digits first, so that the noise of 1.52 - 1.50 does not round it up to 0.03.
    read = Decimal(f"{number:.6e}")
    leading = read.scaleb(-read.adjusted())
    power = read.adjusted() - (1 if leading < 2 else 0)
    return read.quantize(Decimal(1).scaleb(power if finest is None else max(power, finest)), ROUND_UP)


def _fixed(number: float, decimals: int) -> str:
    text = f"{abs(number):.{decimals}f}"
    if number and not float(text):
        text = f"{abs(number):.2e}"
    return f"{MINUS if number < 0 else ''}{text}"
