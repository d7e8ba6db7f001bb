"""Several runs of one sweep as one run: the shards of `--shard i/n`, or sweeps of other variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from bench.answers import changed
from bench.cache import SHARED, copy_files
from bench.compare import machine_differences
from bench.environment import EXTRAS
from bench.errors import InputError
from bench.folder import LOCK, RunFolder, row_name
from bench.interplay import add_interplay
from bench.lock import hold
from bench.nouns.environment import ABSENT, Caution
from bench.nouns.measurement import Measurement
from bench.nouns.run import DENSE, Result, Run
from bench.recommend import flaw_of, recommend, training_cautions
from bench.runner import batch_cautions, seen
from compressors.inspection import refuse_links_out

MAY_DIFFER = ("command", "variants", "shard", "sweep")
Place = tuple[str, int]

NOT_KEPT = (
    "its model is gone: by --keep best its own run kept the model that was best there; make it again with "
    "bench run --variants"
)


@dataclass(frozen=True)
class Part:
    """One of the runs that are merged, and its folder."""

    folder: RunFolder
    run: Run

    @property
    def label(self) -> str:
        """What it is called: by its shard, or its folder where it is none."""
        shard = self.run.config.shard
        return f"shard {shard[0]}/{shard[1]}" if shard else str(self.folder.path)

    def name(self, row: Result) -> str:
        """What a row's files are called."""
        return row_name(row.variant, row.seed, self.run.config.seeds)

    def predictions(self, row: Result) -> Path:
        """Where a row's predictions lie."""
        return self.folder.predictions(self.name(row))

    def dense(self, seed: int) -> Result | None:
        """The row of dense at a seed, if it has come to that."""
        return next((row for row in self.run.results if row.variant == DENSE and row.seed == seed), None)


@dataclass(frozen=True)
class Merged:
    """The parts, by their number, and the run that they make."""

    parts: Sequence[Part]
    run: Run

    def part_of(self, row: Result) -> Part:
        """Where a row comes from: the first part that has it, which several have of dense alone."""
        place = (row.variant, row.seed)
        return next(part for part in self.parts if place in places(part.run))

    def files_to(self, folder: RunFolder) -> None:
        """Put the rows' predictions, artifacts and traces into `folder`, and all logs.

        What a part's folder does not hold, the row does not name any more, and its notes say so.
        """
        for row in self.run.results:
            part = self.part_of(row)
            name = part.name(row)
            if row.status == "ok":
                folder.add_predictions(name, part.predictions(row))
            artifact, trace = part.folder.artifact(name), part.folder.trace(name)
            lost = []
            if row.artifact is not None:
                row.artifact = folder.add_artifact(name, artifact) if artifact.is_dir() else None
                lost += [] if row.artifact else ["artifact"]
            if row.profile and row.profile.trace is not None:
                row.profile.trace = folder.add_trace(name, trace) if trace.is_file() else None
                lost += [] if row.profile.trace else ["trace"]
            row.notes += [f"its {what} was not in {part.label} when it was merged" for what in lost]
        for number, part in enumerate(self.parts, start=1):
            shard = part.run.config.shard
            place = folder.path / "logs" / (f"shard-{shard[0]}" if shard else f"run-{number}")
            if (logs := part.folder.path / "logs").is_dir():
                copy_files(logs, place)


@contextmanager
def opened(place: Path) -> Iterator[Part]:
    """The run in a folder, in which no run works while the block does.

    Raises `InputError` for what is no run folder, for one in which a run works, for one whose run was killed
    and did not note its end, and for links that lead out of it: what is merged may be published.
    """
    try:
        is_folder, has_lock = place.is_dir(), (place / LOCK).exists()
    except OSError as error:  # no folder can have such a name
        raise InputError(f"{place}: cannot be read ({error.strerror})") from None
    if not is_folder:
        raise InputError(f"{place}: is not a folder; name the folders of runs, which hold their predictions")
    with hold(place / LOCK, str(place), shared=True) if has_lock else nullcontext():
        part = Part(RunFolder(place), RunFolder(place).read())
        if part.run.status == "running":
            raise InputError(
                f"{place}: the run has not ended, or was killed; end it with bench run --resume {place}"
            )
        refuse_links_out(place, place.rglob("*"))
        yield part


def in_order(parts: Sequence[Part]) -> list[Part]:
    """The parts by the number of their shards, or as they come where they are none.

    Raises `InputError` unless they are of one sweep: each another shard of it, or with other variants; of
    the same rows, configuration, code and files.
    """
    ordered = sorted(parts, key=lambda part: part.run.config.shard or (0, 0))
    for one, other in combinations(ordered, 2):
        if found := difference(one.run, other.run):
            what, own, theirs = found
            raise InputError(
                f"{other.folder.path}: {what}: {theirs}, and {own} in {one.folder.path}; "
                "merge parts of one sweep"
            )
    refuse_twice(ordered)
    for part in ordered:
        for row in part.run.results:
            if row.status == "ok" and (flaw := flaw_of(part.predictions(row), part.run.task.rows)):
                raise InputError(f"{flaw}; copy the whole run folder again")
    return ordered


def difference(one: Run, other: Run) -> tuple[str, object, object] | None:
    """The first thing that must be the same in two parts and is not, with its values; None without any.

    The hash of the rows is that of the task: of its model, labels and classes too.
    """
    own_count, count = (run.config.shard[1] if run.config.shard else "none" for run in (one, other))
    if own_count != count:
        return "the number of shards", own_count, count
    for name in sorted(one.fingerprints.keys() & other.fingerprints.keys()):
        own_hash, found_hash = one.fingerprints[name], other.fingerprints[name]
        if own_hash != found_hash:
            return f"the hash of the {name}", own_hash[:12], found_hash[:12]
    # It measures with as many threads as each machine has cores for.
    by_machine = ("thread_counts",) if one.config.budget == "thorough" else ()
    for name, own in one.config:
        if name not in (*MAY_DIFFER, *by_machine) and own != getattr(other.config, name):
            return f"the {name.replace('_', ' ')}", own, getattr(other.config, name)
    for name in sorted({*one.config.sweep} ^ {*other.config.sweep}):
        ours = name in one.config.sweep
        return f"the whole sweep's {name}", *(("there", "missing") if ours else ("missing", "there"))
    return None


def refuse_twice(parts: Sequence[Part]) -> None:
    """Raise `InputError` where two parts are the same shard, or both have a variant besides dense."""
    shards: dict[tuple[int, int], Part] = {}
    variants: dict[str, Part] = {}
    for part in parts:
        shard = part.run.config.shard
        if shard and (known := shards.setdefault(shard, part)) is not part:
            raise InputError(f"{part.folder.path}: is {part.label}, as {known.folder.path} is; drop one")
        for variant in {*part.run.config.variants, *(row.variant for row in part.run.results)} - {DENSE}:
            if (known := variants.setdefault(variant, part)) is not part:
                raise InputError(
                    f"{part.folder.path}: has {variant}, as {known.folder.path} has; drop one of them"
                )


def copied_bytes(parts: Sequence[Part]) -> int:
    """What the parts' files take where weights can be linked."""
    files = (file for part in parts for file in part.folder.path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files if not file.name.endswith(SHARED))


def merge(parts: Sequence[Part], name: str, command: str) -> Merged:
    """The one run of parts that are `in_order`, concluded from all of them as far as `conclude` can.

    Its environment is the first part's.
    """
    first = parts[0].run
    asked = (variant for part in parts for variant in part.run.config.variants)
    variants = first.config.sweep or list(dict.fromkeys(asked))
    whole = not missing_shards(parts) and all(part.run.status == "complete" for part in parts)
    run = Run(
        id=name,
        started_at=min(part.run.started_at for part in parts),
        status="complete" if whole else "interrupted",
        environment=first.environment.model_copy(deep=True),
        task=first.task.model_copy(update={"notes": notes(parts)}),
        config=first.config.model_copy(
            update={"variants": variants, "command": command, "shard": None, "sweep": []}
        ),
        fingerprints={what: value for part in parts for what, value in part.run.fingerprints.items()},
        checkpoints={what: commit for part in parts for what, commit in part.run.checkpoints.items()},
        wall_time=total([part.run.wall_time for part in parts]),
        import_time=total([part.run.import_time for part in parts]),
        results=rows(parts, variants),
    )
    merged = Merged(parts, run)
    conclude(merged)
    run.environment.warnings = cautions(merged)
    return merged


def rows(parts: Sequence[Part], variants: Sequence[str]) -> list[Result]:
    """The parts' rows in the order of `variants`, of several for dense the first; with their machine."""
    here = parts[0].run.environment.machine_key
    found: dict[Place, Result] = {}
    for part in parts:
        for row in part.run.results:
            machine = row.machine or part.run.environment.machine_key
            row.machine = None if machine == here else machine
            found.setdefault((row.variant, row.seed), row)
    seeds = parts[0].run.config.seeds
    return [found[variant, seed] for variant in variants for seed in seeds if (variant, seed) in found]


def conclude(merged: Merged) -> None:
    """Put into the rows what only several of them tell, and mark the best of all.

    Times and energies of two machines are not to be set against each other, be they of one kind, so what
    follows from those stays what each part concluded. Interplay is of speed-ups, each paired on its own
    machine, and of answers: of the parts that are like the first, beside the same dense.
    """
    run, parts = merged.run, merged.parts
    alike = [part for part in parts if not set_up_otherwise(parts, part) and not apart(merged, part)]
    beside = [row for row in run.results if row.machine is None and merged.part_of(row) in alike]
    for row in run.results:
        row.recommended = False
        row.notes = [note for note in row.notes if note != NOT_KEPT]
    for row in beside:
        row.interplay = None
    add_interplay(
        run.model_copy(update={"results": beside}), lambda row: merged.part_of(row).predictions(row)
    )
    if run.status == "complete":
        recommend(run)
    if run.status == "complete" and run.config.keep == "best":
        for row in run.results:
            if row.recommended and row.artifact is None:
                row.notes.append(NOT_KEPT)
            row.artifact = row.artifact if row.recommended else None
    for row in run.results:
        if row.variant == DENSE:
            row.notes += other_denses(merged, row.seed)


def other_denses(merged: Merged, seed: int) -> list[str]:
    """What is to be said of parts whose dense is not the one that is kept."""
    rows = merged.run.task.rows["test"]
    return [
        f"{part.label} made another one (seed {seed}): {apart(merged, part)[seed]} of {rows} test rows are "
        f"right by one of the two alone, and what {part.label} has is judged against its own"
        for part in merged.parts
        if seed in apart(merged, part)
    ]


def apart(merged: Merged, part: Part) -> dict[int, int]:
    """By seed, the test rows that only one of a part's dense and the one that is kept has right."""
    counts: dict[int, int] = {}
    for kept in (row for row in merged.run.results if row.variant == DENSE):
        own = part.dense(kept.seed)
        if own and own.right is not None and kept.right is not None and own.right != kept.right:
            counts[kept.seed] = sum(changed(kept.right, own.right))
    return counts


def set_up_otherwise(parts: Sequence[Part], part: Part) -> list[str]:
    """In what a part's machine or its settings are not like the first part's, or its libraries like others'.

    A library is compared with the first part that has it.
    """
    first, own = parts[0].run.environment, part.run.environment
    different = []
    for name in EXTRAS:
        there = {each.label: each.run.environment.versions.get(name, ABSENT) for each in parts}
        label, usual = next((item for item in there.items() if item[1] != ABSENT), ("", ABSENT))
        if own.versions.get(name, ABSENT) not in (ABSENT, usual):
            different.append(f"the version of {name}: {own.versions[name]}, and {usual} in {label}")
    return [*machine_differences(first, own), *different]


def cautions(merged: Merged) -> list[Caution]:
    """Everything that makes the figures less sure, the first of each code.

    Those that follow from the rows are made anew, of all rows.
    """
    parts, run = merged.parts, merged.run
    machines = [
        f"{part.label} ({', '.join(part.run.config.variants)}): {', '.join(differences)}"
        for part in parts
        if (differences := set_up_otherwise(parts, part))
    ]
    several = Caution(
        code="several-machines",
        text=f"not measured on machines set up as that of {parts[0].label}: {'; '.join(machines)}",
        remedy="each speed-up is over dense on the row's own machine; compare no absolute times or energies",
    )
    found = [
        *training_cautions(run),
        *batch_cautions(run),
        *([several] if machines else []),
        *noticed(parts),
    ]
    once = {caution.code: caution for caution in reversed(found)}
    return list(reversed(once.values()))


def noticed(parts: Sequence[Part]) -> list[Caution]:
    """What was noticed in the parts, once for each code, with whose it is where not all say the same."""
    texts: dict[str, dict[str, list[str]]] = {}
    first: dict[str, Caution] = {}
    for part in parts:
        for caution in seen(part.run.environment.warnings):
            first.setdefault(caution.code, caution)
            texts.setdefault(caution.code, {}).setdefault(caution.text, []).append(part.label)
    return [caution.model_copy(update={"text": joined(texts[code])}) for code, caution in first.items()]


def joined(texts: Mapping[str, Sequence[str]]) -> str:
    """One text of several, each with those whose it is; what all say behind a colon is said once."""
    if len(texts) == 1:
        return next(iter(texts))
    ends = {text.partition(": ")[2] for text in texts}
    end = f": {ends.pop()}" if len(ends) == 1 and "" not in ends else ""
    return "; ".join(f"{', '.join(whose)}: {text.removesuffix(end)}" for text, whose in texts.items()) + end


def missing_shards(parts: Sequence[Part]) -> list[str]:
    """The shards of the sweep that are not among the parts."""
    shards = [part.run.config.shard for part in parts]
    count = shards[0][1] if shards[0] else 0
    return [f"{number}/{count}" for number in range(1, count + 1) if (number, count) not in shards]


def remarks(merged: Merged) -> list[str]:
    """What the user is to know, a line each: other denses, and what the sweep still lacks."""
    lines = [f"dense: {note}" for seed in merged.run.config.seeds for note in other_denses(merged, seed)]
    if missing := missing_shards(merged.parts):
        are = "shards {} are" if len(missing) > 1 else "shard {} is"
        lines.append(f"{are.format(', '.join(missing))} missing")
    for part in merged.parts:
        if part.run.status == "interrupted":
            there, config = places(part.run), part.run.config
            lacking = [name for name in config.variants if any((name, s) not in there for s in config.seeds)]
            lines.append(
                f"{part.label} was interrupted (without {', '.join(lacking) or 'its end'}); go on with "
                f"bench run --resume {part.folder.path}, and merge again"
            )
    return lines


def notes(parts: Sequence[Part]) -> list[str]:
    """What is said of the task: how the run came about, and what each part says, once."""
    said = [note for part in parts for note in part.run.task.notes]
    merged = f"merged from {len(parts)} runs, the first of which was asked by: {parts[0].run.config.command}"
    return list(dict.fromkeys([merged, *said]))


def total(times: Sequence[Measurement | None]) -> Measurement | None:
    """The wall times of several runs together; None where no run has any."""
    known = [time for time in times if time]
    if not known:
        return None
    return Measurement(
        value=sum(time.value for time in known),
        unit="s",
        better="lower",
        source=f"{known[0].source}, the sum over {len(known)} runs",
    )


def places(run: Run) -> set[Place]:
    """The variants and seeds that have a row."""
    return {(row.variant, row.seed) for row in run.results}
