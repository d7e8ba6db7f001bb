"""Where a batch's time goes, beside dense's, and what keeps a variant from being faster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from bench.nouns.profile import Ceilings, ModuleKind, Portion, Profile
from bench.nouns.run import DENSE, Result, Run
from reports import numbers
from reports.columns import ESTIMATED, SHOWN, written
from reports.facts import facts
from reports.legend import with_legend
from reports.names import label, named
from reports.numbers import BYTE_RATE, BYTES, FLOP_RATE, PLAIN, SECONDS, Ladder, counted, percent, quantity
from reports.parts import ABSENT, Fact, Header, Line, Name, Report, Row, Section, Table, plain
from reports.sentence import gains, interval_of

VARIANT, OTHERS = "variant", "others"
KINDS: tuple[ModuleKind, ...] = get_args(ModuleKind)
TIME_TITLE = "Where a batch's time goes"
PREDICTED_TITLE = "Predicted and measured speedup"
TRACE_VIEWERS = "ui.perfetto.dev or chrome://tracing"
LAUNCHING_NOTE = (
    "launching: on a GPU the time in which it is idle; on a CPU about what a batch takes that has hardly "
    "anything to compute",
)
APART_NOTE = (
    "each was profiled by itself, minutes apart: compare shares; the speedup that was measured is paired",
)
OF_MACHINES_NOTE = ("they were measured on machines that differ: neither times nor rates are to be compared",)
RATES_NOTE = (
    "of matmul ceiling, of copy ceiling: the time that its FLOPs, or its bytes, would take alone, at the "
    "ceilings beside its own profile, of the time that a batch takes",
)
PROFILER_NOTE = ("times are a batch's, with the profiler running, which slows it down",)
LIBRARIES_NOTE = (
    "times are those that oneDNN and MKL tell, of all threads together, in a pass that the telling slows "
    "down; what other code does is not among them",
)
REACHED_NOTE = (
    "reached: the time that the ceilings allow at best, over the time taken; by the ceilings beside each "
    "one's own profile",
)
IN_OTHERS, SHARE = "in others", "Share"
# Short of this share of what is predicted a row is told why, though it is faster than dense.
ENOUGH = 0.8
# Ceilings are known to a few percent; beyond this the machine itself was not the same.
DRIFT = 1.15
MOST_REASONS = 2
MOST_PORTIONS = 10
LONGEST_NAME = 60
# The fields of a profile that are shown; others are evidence for what keeps a variant from being faster.
TOLD = frozenset(
    {
        "modules",
        "operators",
        "kernels",
        "flops",
        "bytes",
        "bound",
        "device_time",
        "launch_time",
        "dtype",
        "trace",
    }
)


def profile_tables(run: Run, results: Sequence[Result]) -> Iterator[Table]:
    """Where the time goes, what was predicted, and each variant's modules, operators and kernels."""
    yield time_table(run, results)
    yield predicted_table(run, results)
    for result in one_by_one(results):
        yield from portion_tables(run, result)


def one_by_one(results: Sequence[Result]) -> list[Result]:
    """The profiled results that are shown in detail, beside dense; dense itself only where it is alone."""
    profiled = [result for result in results if result.profile]
    return [result for result in profiled if result.variant != DENSE] or profiled


def time_table(run: Run, results: Sequence[Result]) -> Table:
    """One row for each variant that was profiled."""
    headers = (
        Header("Batch ↓"),
        *(Header(kind.capitalize()) for kind in KINDS),
        Header("Launching", opens=True),
        Header("Compute ↑"),
        Header("Of matmul ceiling"),
        Header("Memory ↑"),
        Header("Of copy ceiling"),
        Header("At best", detail=True),
        Header("With profiler", detail=True),
        Header("Precision", numeric=False, detail=True),
    )
    profiled = [result for result in results if result.profile]
    rows = (_row(run, result, _time_cells(result.profile)) for result in results if result.profile)
    shares = ("shares are of the time that the profiler saw",)
    notes = (*_apart(profiled), shares, LAUNCHING_NOTE, RATES_NOTE)
    return Table(TIME_TITLE, headers, tuple(rows), notes, topic="profile").filled()


def _apart(results: Sequence[Result]) -> Iterator[Line]:
    """That profiles are not of the same minutes or machines, and how much those differed in speed."""
    if len({result.machine for result in results}) > 1:
        yield OF_MACHINES_NOTE
    profiles = [result.profile for result in results if result.profile]
    if len(profiles) > 1:
        yield APART_NOTE
        rates = [rate for profile in profiles if (rate := profile.ceilings.matmul.get("float32"))]
        if rates and (drift := max(rates) / min(rates)) > DRIFT:
            yield (
                f"here a float32 matmul was {drift:.2g} times as fast beside one of them as beside another",
            )


def _row(run: Run, result: Result, cells: tuple[str, ...]) -> Row:
    return Row(label(run, result), cells, best=result.recommended, cached=bool(result.cached))


def _time_cells(profile: Profile) -> tuple[str, ...]:
    """The cells of one profile, in the order of the headers."""
    shares = kind_shares(profile)
    compute, memory = _rate(profile.flops, profile.time), _rate(profile.bytes, profile.time)
    launching = _written(launching_share(profile), percent)
    return (
        quantity(profile.time, SECONDS),
        *(_written(shares.get(kind), percent) for kind in KINDS),
        launching if profile.device_time is not None or launching == ABSENT else ESTIMATED + launching,
        _in_unit(compute, FLOP_RATE),
        _written(_rate(profile.flops_bound, profile.time), percent),
        _in_unit(memory, BYTE_RATE),
        _written(_rate(profile.bytes_bound, profile.time), percent),
        _in_unit(profile.bound, SECONDS, ESTIMATED),
        quantity(profile.profiled_time, SECONDS),
        profile.dtype or ABSENT,
    )


def kind_shares(profile: Profile) -> dict[str, float]:
    """The share of each kind of module in the time of all; empty where they are not told apart."""
    times = {portion.name: portion.time for portion in profile.modules}
    whole = sum(times.values())
    return {kind: times[kind] / whole for kind in KINDS if kind in times} if whole else {}


def launching_share(profile: Profile) -> float | None:
    """The share of a batch's time in which nothing is computed, since operators or kernels are started.

    On a GPU it is measured, on a CPU estimated; None where it is not known.
    """
    return None if profile.launch_time is None else min(1.0, profile.launch_time / profile.time)


def _rate(amount: float | None, over: float | None) -> float | None:
    """Their quotient; None where either is missing or nothing: work of which none is counted is not slow."""
    return amount / over if amount and over else None


def _written(value: float | None, write: Callable[[float], str]) -> str:
    return ABSENT if value is None else write(value)


def _in_unit(value: float | None, ladder: Ladder, mark: str = "") -> str:
    return ABSENT if value is None else mark + quantity(value, ladder)


def predicted_table(run: Run, results: Sequence[Result]) -> Table:
    """The speed-up that FLOPs and bytes alone would allow, beside the one that was had."""
    headers = (Header("Predicted ↑"), Header("Measured ↑"), Header("Reached ↑"))
    rows = (
        _row(run, result, _predicted_cells(result))
        for result in results
        if result.variant != DENSE and (result.profile or "predicted_speedup" in result.metrics)
    )
    notes = (
        ("predicted: dense's time over the variant's if both did their FLOPs and bytes at the ceilings",),
        ("reached: measured over predicted",),
    )
    return Table(PREDICTED_TITLE, headers, tuple(rows), notes, topic="profile").filled()


def _predicted_cells(result: Result) -> tuple[str, ...]:
    metrics = result.metrics
    predicted, measured = metrics.get("predicted_speedup"), metrics.get("speedup")
    share = _rate(measured.value, predicted.value) if measured and predicted else None
    return (
        written(predicted, SHOWN["predicted_speedup"]) if predicted else ABSENT,
        written(measured, SHOWN["speedup"]) if measured else ABSENT,
        _written(share, _estimated),
    )


def _estimated(share: float) -> str:
    return ESTIMATED + percent(share)


@dataclass(frozen=True)
class Measure:
    """What a table of portions tells of each; `cell` is given the portion and the time of all."""

    title: str
    cell: Callable[[Portion, float], str]
    detail: bool = False


MEASURES = (
    Measure("Time", lambda portion, whole: quantity(portion.time, SECONDS)),
    Measure(SHARE, lambda portion, whole: _written(_rate(portion.time, whole), percent), detail=True),
    Measure("Calls", lambda portion, whole: f"{portion.calls:,.1f}".removesuffix(".0")),
    Measure("Compute", lambda portion, whole: _in_unit(_rate(portion.flops, portion.time), FLOP_RATE), True),
    Measure("Memory", lambda portion, whole: _in_unit(_rate(portion.bytes, portion.time), BYTE_RATE), True),
    Measure("Reached", lambda portion, whole: _written(_rate(portion.bound, portion.time), _estimated)),
)
PORTIONS: dict[str, Callable[[Profile], list[Portion]]] = {
    "Module": lambda profile: profile.modules,
    "Operator": lambda profile: profile.operators,
    "Kernel": lambda profile: profile.kernels,
}


def portion_tables(run: Run, result: Result, most: int | None = None) -> Iterator[Table]:
    """The modules, operators and kernels of a profiled variant beside those of dense, the longest first.

    At most `most` lines each.
    """
    if result.profile is None:
        return
    sides = beside_dense(run, result)
    own = "".join(named(run, result))
    whose = f"{DENSE} and {own}" if len(sides) > 1 else own
    for what, portions in PORTIONS.items():
        if portions(result.profile):
            shown = {side: portions(profile) for side, profile in sides.items()}
            by_libraries = what == "Kernel" and result.profile.device_time is None
            note = LIBRARIES_NOTE if by_libraries else PROFILER_NOTE
            measures = [each for each in MEASURES if not (by_libraries and each.title == SHARE)]
            yield _portions_table(f"{what}s of {whose}", what, shown, most, measures, note)


def beside_dense(run: Run, result: Result) -> dict[str, Profile]:
    """The profiles of dense and of the variant, as far as there are any; dense alone has only its own.

    Dense's is left out where another machine made it: its times and ceilings are not to be set beside these.
    """
    place = (DENSE, result.seed, result.machine)
    dense = (other for other in run.results if (other.variant, other.seed, other.machine) == place)
    sides = {DENSE: next(dense, None), DENSE if result.variant == DENSE else VARIANT: result}
    return {side: held.profile for side, held in sides.items() if held and held.profile}


def _portions_table(
    title: str,
    what: str,
    sides: Mapping[str, Sequence[Portion]],
    most: int | None,
    measures: Sequence[Measure],
    note: Line,
) -> Table:
    """A line for each name on any of the `sides`, their figures beside each other."""
    known = {side: {_known(portion.name): portion for portion in own} for side, own in sides.items()}
    wholes = {side: sum(portion.time for portion in own) for side, own in sides.items()}
    names = _longest_first(portion for own in known.values() for portion in own.values())
    columns = [(measure, side) for measure in measures for side in sides]
    missing = {side: IN_OTHERS if OTHERS in own else ABSENT for side, own in known.items()}
    headers = (
        Header(
            f"{measure.title}, {side}" if len(sides) > 1 else measure.title,
            detail=measure.detail,
            opens=side == next(iter(sides)),
        )
        for measure, side in columns
    )
    rows = (
        Row(
            short_name(name),
            tuple(
                measure.cell(known[side][name], wholes[side]) if name in known[side] else missing[side]
                for measure, side in columns
            ),
        )
        for name in names[:most]
    )
    notes: list[Line] = [note]
    if any(portion.bound is not None for own in sides.values() for portion in own):
        notes.append(REACHED_NOTE)
    if left_out := len(names) - len(names[:most]):
        notes.append((f"{left_out} more in report.md and report.html",))
    return Table(
        title, tuple(headers), tuple(rows), tuple(notes), detail=True, first=what, topic="profile"
    ).filled()


def _longest_first(portions: Iterable[Portion]) -> list[str]:
    """Their names, by the longest time of each, what is summed up last."""
    longest: dict[str, float] = {}
    for portion in portions:
        name = _known(portion.name)
        longest[name] = max(portion.time, longest.get(name, 0.0))
    return sorted(longest, key=lambda name: (name == OTHERS, -longest[name]))


def _known(name: str) -> str:
    """The name by which a portion is found on another side; those that are summed up are so on each."""
    return OTHERS if re.fullmatch(r"\d+ others", name) else name


def short_name(name: str, most: int = LONGEST_NAME) -> str:
    """A name without torch's own namespace, cut: kernels' can be hundreds of characters long."""
    name = plain(name.removeprefix("aten::"))
    return name if len(name) <= most else name[: most - 1] + "…"


def falls_short(result: Result) -> bool:
    """Whether a variant is not shown to be faster, or far from as much faster as was predicted."""
    if result.status != "ok" or result.variant == DENSE:
        return False
    speedup, predicted = result.metrics.get("speedup"), result.metrics.get("predicted_speedup")
    if not result.is_faster or speedup is None or predicted is None:
        return not result.is_faster
    _, high = interval_of(speedup) or (speedup.value, speedup.value)
    return high < ENOUGH * predicted.value


def why_not_faster(run: Run, results: Sequence[Result], further: bool = False) -> Iterator[Line]:
    """The gravest reasons of each variant that falls short; with `further` all the others."""
    for result in filter(falls_short, results):
        told = slice(MOST_REASONS, None) if further else slice(MOST_REASONS)
        yield from ((*named(run, result), f": {reason}") for reason in reasons(result)[told])


def reasons(result: Result) -> list[str]:
    """What keeps a variant from being faster, the gravest first, each with its remedy."""
    return [f"{diagnosis.text}; {diagnosis.remedy}" for diagnosis in result.diagnoses]


def not_profiled(run: Run, results: Sequence[Result]) -> Iterator[Line]:
    """What is empty in the tables of a profile, and why."""
    for result in results:
        for what, why in (result.profile.unavailable if result.profile else {}).items():
            if what in TOLD:
                yield (*named(run, result), f", {what.replace('_', ' ')}: {why}")


def profile_facts(run: Run, result: Result) -> tuple[Fact, ...]:
    """What a reader must know before the figures of one profile and of dense's beside it."""
    profile = result.profile
    if profile is None:
        return ()
    sides = beside_dense(run, result)
    dense = sides.get(DENSE) if VARIANT in sides else None
    size = f"{counted(profile.batch_size, 'row')}, {quantity(profile.tokens, PLAIN)} tokens"
    batch = f"{size}; {profile.batches:,} of them profiled"
    return (
        Fact("Batch", batch),
        Fact("Precision", profile.dtype or "not known"),
        Fact("Ceilings", in_words(profile.ceilings)),
        *([Fact("Beside dense", in_words(dense.ceilings))] if dense else ()),
    )


def in_words(ceilings: Ceilings) -> str:
    """`41.2 GFLOP/s in a float32 matmul, 9.10 GB/s in a copy of 268 MB, 2.60 µs an empty operator`."""
    copy = ceilings.copies[-1]
    matmuls = (f"{quantity(rate, FLOP_RATE)} in a {dtype} matmul" for dtype, rate in ceilings.matmul.items())
    copied = f"{quantity(copy.rate, BYTE_RATE)} in a copy of {quantity(copy.size, BYTES)}"
    return ", ".join((*matmuls, copied, f"{quantity(ceilings.call, SECONDS)} an empty operator"))


def profile_report(run: Run, variant: str) -> Report:
    """What `bench profile` shows: one variant's profile beside dense's, and why it is as fast as it is."""
    results = [found for name in dict.fromkeys((DENSE, variant)) if (found := run.result(name))]
    result = results[-1] if results and results[-1].variant == variant else None
    profile = result.profile if result else None
    tables = (
        time_table(run, results),
        predicted_table(run, results),
        *(portion_tables(run, result, MOST_PORTIONS) if result else ()),
    )
    kept = ("Device", "Noise floor", "Software", "Run")
    told = tuple((reason,) for reason in reasons(result)) if result else ()
    limited = variant == DENSE or (result is not None and result.is_faster)
    sections = (
        Section("What limits its speed" if limited else "Why it is not faster", told),
        Section("Not available", tuple(not_profiled(run, results))),
    )
    return Report(
        title=f"{run.task.name}: profile of {variant}",
        facts=(
            *(fact for fact in facts(run) if fact.name in kept),
            *(profile_facts(run, result) if result else ()),
            *(_trace(profile) if profile else ()),
        ),
        tables=with_legend([table.essential() for table in tables if table.rows]),
        sections=tuple(section for section in sections if section.lines),
        closing=_closing(variant, result),
    )


def _trace(profile: Profile) -> Iterator[Fact]:
    if profile.trace:
        yield Fact("Trace", f"{profile.trace}; open it in {TRACE_VIEWERS}")


def _closing(variant: str, result: Result | None) -> Line:
    if result is None or result.profile is None:
        told = (result.reason or result.unavailable.get("predicted_speedup")) if result else None
        why = told or "it was not measured"
        return (Name(variant), f" was not profiled: {why}")
    if variant == DENSE or "speedup" not in result.metrics:
        return ("A batch takes ", Name(variant), f" {quantity(result.profile.time, SECONDS)}.")
    predicted = result.metrics.get("predicted_speedup")
    if predicted is None:
        return gains([result])
    allowed = f"{ESTIMATED}{numbers.spread(predicted.value)}"
    return (*gains([result]), f" Its FLOPs and bytes would allow {allowed} times (estimated).")
