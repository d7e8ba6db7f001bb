"""Why a variant is not faster: what the evidence in its row names, each with its figure and the remedy.

A rule gives what it found in a row, or None where its figure stays below its threshold. `docs/profiling.md`
lists the codes with their evidence.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pynvml

from bench.meters.machine import (
    BUSY_ROUNDS,
    MOST_DISCARDED,
    SLOWDOWNS,
    WORTH_SAYING,
    mean_reading,
    values,
)
from bench.nouns.document import Series
from bench.nouns.profile import Diagnosis, DiagnosisCode, Portion, Profile, Width
from bench.nouns.run import Result, Scenario
from bench.visible import visible

# Where less of the time goes there, ridding it of that altogether gives less than a factor of 1.4.
BOUND_SHARE = 0.3
# The same for a factor of 1.25, of what can be had without another model: other kernels, other batches.
WASTED_SHARE = 0.2
# In a model an operator takes up to 30 times as long to start as a bare one, for the Python in between (46 µs
# against 1.6 µs on a virtual machine). A gap between kernels that is longer has another reason.
HELD_BACK = 30.0
# What takes less than this share of the time that a GPU waits is not why it waits.
EXPLAINS = 1 / 3
# A model's graph holds a hundred kernels; one kernel is started by one call.
GRAPHED = 2.0
# Training leaves hardly any weight at zero, quantising to 8 bits 1 to 3 %.
ZERO_SHARE = 0.10
# Widths of several hundred cost less than this however odd they are, and timings differ by half of it.
WIDTH_COST = 1.15
# A type of half the size should double the rate of products; rates are known to a few percent.
NOT_FASTER = 1.1
# Products of few rows read weights too large for any cache at 45 to 50 % of the rate of a copy, on a busy
# machine at half of that; what mostly waits to be started moves bytes at 2 % of it.
OF_A_COPY = 0.2

ENGINES = {"compile", "onnx", "graphs", "unpadded"}
QUANTISED = {"int8", "fp8"}
PRUNING = {"bmp", "magnitude", "random", "fisher"}
# Whole vectors of AVX-512 in float32, and rows that tensor cores take in 16 and in 8 bits.
MULTIPLE = 16
OTHERS = re.compile(r"[0-9]+ others")
COMPILING = re.compile(r"([0-9.]+) s of compiling fell into the timed rounds")
PREFIXES = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


class SlowPath(NamedTuple):
    """What a profile shows a slow path by: a name that is its `sign`, and the names that its time goes to.

    `remedy` is what helps besides fusing operators, which helps those that are `fusible`.
    """

    among: Literal["operators", "kernels"]
    sign: re.Pattern[str]
    members: re.Pattern[str]
    meaning: str
    remedy: str
    fusible: bool


REFERENCE = re.compile(r"\bref\b")
COPIES = re.compile("^aten::(_to_copy|copy_)$")
SLOW_PATHS = (
    SlowPath(
        "kernels",
        sign=REFERENCE,
        members=REFERENCE,
        meaning="oneDNN's reference kernels, which are taken where there is no fast one",
        remedy="take a precision that this CPU has kernels for: float32 or onnx:int8",
        fusible=False,
    ),
    SlowPath(
        "operators",
        sign=re.compile("quantize_affine|choose_qparams|^aten::_int_mm$"),
        members=re.compile(r"^torchao::|^aten::(amax|amin|clamp|copy_|div|mul|round|sub|_to_copy)$"),
        meaning="quantising the layers' inputs and rescaling their outputs, in passes of their own",
        remedy="keep layers as narrow as these in floating point",
        fusible=True,
    ),
    SlowPath(
        "operators",
        sign=COPIES,
        members=COPIES,
        meaning="copying tensors, and casting them from one type to another, at every call",
        remedy="store weights in the type that is computed in, as mp does and int8:weight-only does not",
        fusible=True,
    ),
    SlowPath(
        "operators",
        sign=re.compile("^aten::(_safe_softmax|_softmax)$"),
        members=re.compile("^aten::(_safe_softmax|_scaled_dot_product_attention_math|_softmax|baddbmm|bmm)$"),
        meaning="attention in several passes, where one fused kernel would do",
        remedy="take a family whose attention transformers fuses, such as BERT",
        fusible=True,
    ),
)


class Figure(NamedTuple):
    """A number as it is told, to three digits."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


class Finding(NamedTuple):
    """A diagnosis, and the share of a batch's time that could be saved at most."""

    lost: float
    diagnosis: Diagnosis


@dataclass(frozen=True)
class Evidence:
    """A row, and where it was measured: on `cpu` or on `cuda`, of a host of so many cores.

    Those that its users see: of all of them is the time that other guests took a share.
    """

    result: Result
    device: str
    host_cores: int

    @property
    def profile(self) -> Profile | None:
        return self.result.profile

    @property
    def scenario(self) -> Scenario | None:
        """The headline."""
        return next(iter(self.result.scenarios.values()), None)

    @property
    def machine(self) -> dict[str, Series]:
        """What the machine did in the headline's rounds."""
        return self.scenario.raw.machine if self.scenario and self.scenario.raw else {}

    @property
    def busy(self) -> float:
        """The share of a batch's time that its parts are shares of: for the rest a GPU is idle."""
        profile = self.profile
        if profile is None or profile.device_time is None:
            return 1.0
        return min(profile.device_time / profile.time, 1.0)

    @property
    def replays_graphs(self) -> bool:
        """Whether a GPU was given whole graphs of kernels to run: it ran many more than were started."""
        profile = self.profile
        run = math.fsum(kernel.calls for kernel in profile.kernels) if profile else 0.0
        return run > GRAPHED * ((profile.calls if profile else None) or math.inf)

    @property
    def techniques(self) -> set[str]:
        """The names of its techniques and of those in the artifact it goes on from, without percentages."""
        words = [part.partition(":")[0] for part in (*self.result.parts, *self.result.continues)]
        return {*words, *(word.rstrip(".0123456789") for word in words)}

    @property
    def runs_by_engine(self) -> bool:
        """Whether an engine runs the model; an artifact that the variant goes on from may bring it."""
        return bool(self.techniques & ENGINES) or "compile_time" in self.result.metrics


def diagnose(result: Result, device: str, host_cores: int) -> list[Diagnosis]:
    """What keeps the row from being faster, the gravest first; empty where nothing in it tells."""
    return [each.diagnosis for each in findings(result, device, host_cores)]


def findings(result: Result, device: str, host_cores: int) -> list[Finding]:
    """What the rules find in the row, the most time lost first; nothing in one that was not measured."""
    if result.status != "ok":
        return []
    evidence = Evidence(result, device, host_cores)
    found = [each for each in (rule(evidence) for rule in RULES) if each]
    return sorted(found, key=lambda each: -each.lost)


def finding(code: DiagnosisCode, lost: float, figure: Figure, text: str, remedies: Sequence[str]) -> Finding:
    """A finding in the words of the run document."""
    remedy = "; ".join(remedies)
    return Finding(
        lost, Diagnosis(code=code, text=text, figure=figure.value, unit=figure.unit, remedy=remedy)
    )


def throttled(evidence: Evidence) -> Finding | None:
    """The clock was held down, or cores were halted or taken, while the row was timed."""
    if evidence.device == "cuda":
        return throttled_gpu(evidence)
    stolen, halted = (mean_reading([evidence.machine], name) or 0.0 for name in ("steal", "throttled"))
    if max(stolen, halted) < WORTH_SAYING:
        return None
    # How many cores there were to halt is not known: as if one more had worked meanwhile.
    lost, figure = halted / (1 + halted), cores(halted)
    text = f"the CPU quota kept {figure} halted on average while it was timed"
    remedies = ["raise the container's CPU limit or use fewer threads", "set OMP_WAIT_POLICY=PASSIVE"]
    if stolen > lost:
        lost, figure = min(stolen, 1.0), percent(stolen)
        text = f"other guests of this host took {figure} of the CPU time while it was timed"
        remedies[0] = "measure on a quiet or dedicated machine"
    return finding("throttled", lost, figure, text, remedies)


def throttled_gpu(evidence: Evidence) -> Finding | None:
    """The GPU slowed down in too many rounds, or its power cap held the clock in as many."""
    scenario = evidence.scenario
    if scenario is None or scenario.raw is None:
        return None
    cap = pynvml.nvmlClocksEventReasonSwPowerCap
    events = enumerate(values(evidence.machine, "clock_events"))
    capped = {place for place, bits in events if int(bits or 0) & cap}
    slow = capped | set(scenario.raw.discarded)
    rounds = len(scenario.raw.order)
    if len(slow) <= MOST_DISCARDED * rounds:
        return None
    share = len(slow) / rounds
    figure, hot = percent(share), set(scenario.raw.discarded.values()) & set(SLOWDOWNS.values())
    causes = [*sorted(hot), *(["its power cap"] if capped else [])]
    clocks = {place: clock for place, clock in enumerate(values(evidence.machine, "sm_clock")) if clock}
    held = (
        statistics.median(known) if (known := [clocks[place] for place in slow if place in clocks]) else None
    )
    return finding(
        "throttled",
        share * (1 - held / max(clocks.values())) if held else 0.0,
        figure,
        f"the GPU's clock was held down in {figure} of the rounds"
        + (f", to a median of {si(held, 'Hz')}" if held else "")
        + (f", by {' and '.join(causes)}" if causes else ""),
        ["see to the GPU's cooling", "raise its power cap by nvidia-smi -pl"],
    )


def emulated_precision(evidence: Evidence) -> Finding | None:
    """Products in the model's precision are hardly faster here than in float32."""
    profile = evidence.profile
    if profile is None or profile.dtype in (None, "float32"):
        return None
    rates = profile.ceilings.matmul
    rate, full = rates.get(profile.dtype), rates.get("float32")
    if rate is None or full is None or rate >= NOT_FASTER * full:
        return None
    figure = Figure(digits(rate / full), "times")
    native = "float32 or onnx:int8" if evidence.device == "cpu" else "a precision that this GPU computes in"
    return finding(
        "emulated-precision",
        1 - rate / (2 * full),
        figure,
        f"products in {profile.dtype} reach {figure} the rate of those in float32 ({si(rate, 'FLOP/s')} "
        f"against {si(full, 'FLOP/s')}), so it is not computed in natively",
        [f"take {native}", f"measure {profile.dtype} where the hardware has instructions for it"],
    )


def fallback_kernels(evidence: Evidence) -> Finding | None:
    """Names of operators or kernels show a slow path; of several, the one that takes most of the time."""
    profile = evidence.profile
    if profile is None:
        return None
    shares = {path: slow_share(evidence, profile, path) for path in SLOW_PATHS}
    path = max(shares, key=lambda path: shares[path])
    if shares[path] < WASTED_SHARE:
        return None
    figure = percent(shares[path])
    names = [part.name for part in longest(getattr(profile, path.among)) if path.members.search(part.name)]
    return finding(
        "fallback-kernels",
        shares[path],
        figure,
        f"{figure} of the time goes into {path.meaning} ({', '.join(map(short, names[:3]))})",
        [path.remedy, *(fused(evidence) if path.fusible else [])],
    )


def slow_share(evidence: Evidence, profile: Profile, path: SlowPath) -> float:
    """The share of a batch's time that goes to a slow path; 0 where nothing shows that it is taken.

    Operators make up a batch, while the kernels that a CPU's libraries tell are only some of it.
    """
    portions: Sequence[Portion] = getattr(profile, path.among)
    if not any(path.sign.search(part.name) for part in portions):
        return 0.0
    members = [part for part in portions if path.members.search(part.name)]
    if path.among == "kernels":
        return min(time_of(members) / profile.time, 1.0)
    return evidence.busy * share_of(members, portions)


def recompiles(evidence: Evidence) -> Finding | None:
    """Compiling goes on when every shape has been seen, or fell into the timed rounds."""
    profile = evidence.profile
    again_s, fell_s = (profile.recompile_time or 0.0) if profile else 0.0, compiling_in_rounds(evidence)
    remedies = fewer_forms(evidence)
    # What is compiled takes many batches' time; what is only looked up takes none.
    if profile and again_s > profile.time:
        figure = Figure(digits(again_s), "s")
        when = (
            "for a shape that had not been run yet" if profile.new_shape else "when all shapes had been run"
        )
        text = f"{figure} went into compiling anew {when}"
        lost = again_s / (again_s + profile.batches * profile.time)
        return finding("recompiles", lost, figure, text, remedies)
    if fell_s > 0:
        figure = Figure(digits(fell_s), "s")
        text = f"{figure} of compiling fell into the timed rounds, when the model had been warmed up"
        return finding("recompiles", fell_s / (fell_s + time_of_rounds(evidence)), figure, text, remedies)
    return None


def compiling_in_rounds(evidence: Evidence) -> float:
    """The s of compiling that a note says fell into the headline's rounds."""
    name = next(iter(evidence.result.scenarios), None)
    notes = [note for note in evidence.result.notes if note.startswith(f"{name}: ")]
    return math.fsum(float(found[1]) for note in notes if (found := COMPILING.search(note)))


def time_of_rounds(evidence: Evidence) -> float:
    """The s for which the row's own model was timed in the headline's rounds."""
    raw = evidence.scenario.raw if evidence.scenario else None
    series = raw.times.get(evidence.result.variant) if raw else None
    return math.fsum(value or 0.0 for value in series.values) if series else 0.0


def masks(evidence: Evidence) -> Finding | None:
    """Weights are zero, and their matrices as large as before."""
    share = evidence.profile.zero_share if evidence.profile else None
    if share is None or share < ZERO_SHARE:
        return None
    figure, removed = percent(share), evidence.result.metrics.get("encoder_reduction")
    left_out = (
        f"; {percent(max(removed.value, 0.0))} of dense's weights were really removed" if removed else ""
    )
    return finding(
        "masks",
        share,
        figure,
        f"{figure} of the encoder's weights are zeros, multiplied like any others{left_out}",
        ["remove whole heads and neurons, as bmp, magnitude and fisher do, in place of masking weights"],
    )


def launch_bound(evidence: Evidence) -> Finding | None:
    """Starting operators takes a large part of a batch; on a GPU it has nothing to do meanwhile."""
    profile, on_gpu, lost = evidence.profile, evidence.device == "cuda", launch_share(evidence)
    if lost < BOUND_SHARE or (on_gpu and held_back(evidence)):
        return None
    figure = percent(lost)
    text = f"for {figure} of its time the GPU waits for kernels to be started"
    if profile and profile.launch_time is not None and profile.calls:
        started = "graphs and kernels" if evidence.replays_graphs else "kernels"
        what = f"{started}, the GPU idle meanwhile" if on_gpu else "operators, whatever they do"
        each = si(profile.launch_time / profile.calls, "s")
        text = (
            f"at batch size {profile.batch_size}, about {figure} of a batch's {si(profile.time, 's')} is "
            f"spent starting {profile.calls:.0f} {what}: {each} each"
        )
    return finding("launch-bound", lost, figure, text, fewer_launches(evidence))


def starved_gpu(evidence: Evidence) -> Finding | None:
    """The GPU is idle since the CPU that feeds it is held back, or does other things between kernels."""
    lost = launch_share(evidence)
    if evidence.device != "cuda" or lost < BOUND_SHARE or not (reason := held_back(evidence)):
        return None
    figure = percent(lost)
    text = f"the GPU is idle for {figure} of the time: {reason}"
    remedies = ["give the process CPU cores of its own", *graphed(evidence)]
    return finding("starved-gpu", lost, figure, text, remedies)


def held_back(evidence: Evidence) -> str:
    """How it shows that the CPU is held back, beyond starting kernels; empty where it does not.

    What is taken of one core, on which kernels are started, has to explain a good part of the waiting.
    """
    machine = [evidence.machine]
    stolen, halted, others = (mean_reading(machine, name) or 0.0 for name in ("steal", "throttled", "others"))
    least = max(EXPLAINS * launch_share(evidence), WORTH_SAYING)
    if stolen * evidence.host_cores > least:
        return f"{percent(stolen)} of the CPU time went to other guests of this host"
    if halted > least:
        return f"the CPU quota kept {cores(halted)} halted on average"
    profile = evidence.profile
    if profile is None or not profile.calls or evidence.replays_graphs:
        return ""
    gap, call = launch_share(evidence) * profile.time / profile.calls, profile.ceilings.call
    if gap <= HELD_BACK * call:
        return ""
    each, bare = si(gap, "s"), si(call, "s")
    # That others are busy tells by itself nothing where cores are left over.
    beside = f"; {percent(others)} of the CPU was used by other processes" if others > BUSY_ROUNDS else ""
    return f"for each of {profile.calls:.0f} kernels {each}, and starting one by itself takes {bare}{beside}"


def padding(evidence: Evidence) -> Finding | None:
    """Many of the tokens are padding, on which the model works all the same."""
    measured = evidence.scenario.metrics.get("padding_share") if evidence.scenario else None
    if measured is None or measured.value < WASTED_SHARE or "unpadded" in evidence.techniques:
        return None
    # Of tokens alone: attention grows faster than they do, and what is no token's does not shrink with them.
    figure, times = percent(measured.value), digits(1 / (1 - min(measured.value, 0.99)))
    remedies = []
    if "sorted" not in evidence.techniques:
        remedies.append("add sorted, which batches rows of like length, where two batches of rows wait")
    if not evidence.runs_by_engine:
        remedies.append("add unpadded, which leaves padding out of the encoder, where the family allows")
    return finding(
        "padding",
        measured.value,
        figure,
        f"{figure} of the tokens are padding: without, it could be about {times:g} times as fast",
        remedies or ["take a smaller --batch-size"],
    )


def unfriendly_widths(evidence: Evidence) -> Finding | None:
    """Layers have widths that kernels fill up to the next multiple of what they take at a time."""
    profile = evidence.profile
    costly = [width for width in profile.widths if width.cost >= WIDTH_COST] if profile else []
    if profile is None or not costly:
        return None
    worst = max(costly, key=lambda width: width.cost)
    figure = Figure(digits(worst.cost), "times")
    others = f", and {len(costly) - 1} more are like it" if len(costly) > 1 else ""
    remedy = f"take widths that are multiples of {MULTIPLE}"
    if evidence.techniques & PRUNING:
        remedy = f"prune to such widths by the setting multiple={MULTIPLE}"
    return finding(
        "unfriendly-widths",
        min(
            evidence.busy
            * math.fsum((1 - 1 / width.cost) * share_of_layers(width, profile) for width in costly),
            1.0,
        ),
        figure,
        f"{worst.what} of width {worst.width}: a column takes {figure} as long as at "
        f"{worst.friendly}{others}",
        [remedy],
    )


def share_of_layers(width: Width, profile: Profile) -> float:
    """The share of a batch's time in layers of this width: those of its kind have equal parts in theirs.

    Where modules are not known, all of the time is in either kind.
    """
    if not profile.modules:
        return width.share
    kind = [part for part in profile.modules if width.what.startswith(part.name)]
    return width.share * share_of(kind, profile.modules)


def memory_bound(evidence: Evidence) -> Finding | None:
    """Most of what a batch takes at best is reading and writing, and that is what it takes."""
    profile = evidence.profile
    if profile is None or not profile.bound:
        return None
    waiting = longest([part for part in profile.operators if is_set_by_bytes(part)])
    lost = evidence.busy * share_of(waiting, profile.operators)
    bound_s = math.fsum(part.bytes_bound or 0.0 for part in waiting)
    of_a_copy = bound_s / (time_of(waiting) or math.inf)
    if bound_s <= profile.bound / 2 or of_a_copy < OF_A_COPY or lost < BOUND_SHARE:
        return None
    figure, moved = percent(lost), math.fsum(part.bytes or 0.0 for part in waiting)
    most = next((part.name for part in waiting if not OTHERS.fullmatch(part.name)), "many small ones")
    return finding(
        "memory-bound",
        lost,
        figure,
        f"{figure} of the time is spent in operators that wait for memory, most in {short(most)}: "
        f"{si(moved / time_of(waiting), 'B/s')} are {percent(min(of_a_copy, 1.0))} of what copies reach",
        fewer_bytes(evidence),
    )


def is_set_by_bytes(part: Portion) -> bool:
    """Whether an operator's bytes take longer at best than its FLOPs; not where neither is known."""
    return (part.bytes_bound or 0.0) > (math.inf if part.flops_bound is None else part.flops_bound)


RULES = (
    throttled,
    emulated_precision,
    fallback_kernels,
    recompiles,
    masks,
    launch_bound,
    starved_gpu,
    padding,
    unfriendly_widths,
    memory_bound,
)


def fewer_launches(evidence: Evidence) -> list[str]:
    """What makes a batch of fewer launches, or does more with each."""
    by_engine = graphed(evidence) if evidence.device == "cuda" else fused(evidence)
    return ["take a larger --batch-size", *by_engine]


def fused(evidence: Evidence) -> list[str]:
    """What fuses operators, where nothing does yet and the variant's precision allows for it."""
    # ONNX Runtime is given models in float32.
    engines = "compile" if evidence.techniques & {*QUANTISED, "mp"} else "compile or onnx"
    if "unpadded" in evidence.techniques:
        return [f"take {engines} in place of unpadded, to have operators fused"]
    return [] if evidence.runs_by_engine else [f"add {engines}, to have operators fused"]


def graphed(evidence: Evidence) -> list[str]:
    """CUDA graphs, where nothing runs the model yet or torch.compile can make them."""
    spelled = (*evidence.result.parts, *evidence.result.continues)
    if "compile" in evidence.techniques:
        by_graphs = any(mode in part for part in spelled for mode in ("reduce-overhead", "max-autotune"))
        return [] if by_graphs else ["launch a batch at once by compile:reduce-overhead"]
    if any(part.startswith("int8") and "weight-only" not in part for part in spelled):
        return [] if evidence.runs_by_engine else ["add compile:reduce-overhead, which launches it at once"]
    return [] if evidence.runs_by_engine else ["add graphs, which launches a batch at once"]


def fewer_forms(evidence: Evidence) -> list[str]:
    """What leaves less to compile."""
    if "graphs" in evidence.techniques:
        return ["have fewer shapes by graphs:multiple=32, or keep more by graphs:shapes=512"]
    dynamic = [] if "compile" in evidence.techniques else ["compile once for any shape, as compile does"]
    return [*dynamic, "pad rows to few lengths"]


def fewer_bytes(evidence: Evidence) -> list[str]:
    """What makes a batch move fewer bytes, or do more with those that it reads."""
    remedies = ["take a larger --batch-size, for which weights are read no more often", *fused(evidence)]
    if evidence.device == "cuda" and not evidence.techniques & {*QUANTISED, "mp", "onnx"}:
        remedies.append("add mp, whose weights are half as large")
    return remedies


def launch_share(evidence: Evidence) -> float:
    """The share of a batch that goes into starting operators, in which a GPU is idle.

    By the profile, or else on a GPU by events, which know the least of it; 0 where neither tells.
    """
    profile, scenario = evidence.profile, evidence.scenario
    if profile and profile.launch_time is not None:
        return min(profile.launch_time / profile.time, 1.0)
    measured = scenario.metrics.get("launch_overhead") if scenario else None
    return measured.value if measured else 0.0


def time_of(portions: Sequence[Portion]) -> float:
    """The time that portions take together, in s."""
    return math.fsum(part.time for part in portions)


def share_of(some: Sequence[Portion], portions: Sequence[Portion]) -> float:
    """The share of all portions' time that some of them take."""
    return min(time_of(some) / (time_of(portions) or math.inf), 1.0)


def longest(portions: Sequence[Portion]) -> list[Portion]:
    """The portions, that which takes longest first."""
    return sorted(portions, key=lambda part: -part.time)


def percent(share: float) -> Figure:
    """A share as it is told."""
    return Figure(float(f"{100 * share:.2g}"), "%")


def cores(count: float) -> Figure:
    """A number of cores as it is told."""
    return Figure(digits(count), "cores")


def digits(value: float) -> float:
    """The value to three digits."""
    return float(f"{value:.3g}")


def si(value: float, unit: str) -> str:
    """A quantity with its prefix, to two digits: `2.6 µs`."""
    power = 3 * math.floor(math.log10(value) / 3) if value > 0 else 0
    power = min(max(power, min(PREFIXES)), max(PREFIXES))
    return f"{float(f'{value / 10**power:.2g}'):g} {PREFIXES[power]}{unit}"


def short(name: str) -> str:
    """An operator's or kernel's name on one line, cut where it spells out its templates."""
    return visible(name)[:60]
