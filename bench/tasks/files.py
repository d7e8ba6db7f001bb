"""A task made of tables of rows: which columns to read, which rows to keep, how to divide them."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, did_you_mean
from bench.nouns.audit import DataAudit
from bench.nouns.task import Example, Task
from bench.tasks.audit import Rows, audit_notes, audit_splits, deduplicate, mark_seen
from bench.tasks.dataset import parse_dataset_id, read_dataset
from bench.tasks.split import limit, split
from bench.tasks.table import LABEL_NAMES, LONGEST_NAME, SUFFIXES, TEXT_NAMES, Table, bare_name, read_table
from bench.visible import visible

VALIDATION_SHARE = 0.1
WORST_DROPPED_SHARE = 0.2
LONGEST_LABEL = 200
MANY_LABELS = 100
ROWS_PER_AMOUNT = 10
NAMED, NAMED_COLUMNS = 5, 20
# Left in labels, where they are data; but two labels that differ by these alone look alike. Tag characters
# (the flags of England and Scotland) and the signs of Arabic numbers are format characters too, and are seen.
DIRECTION_MARKS = "\u061c\u200e\u200f"
UNSEEN = dict.fromkeys(map(ord, DIRECTION_MARKS + "\u00ad\u200b\u2060\u2061\u2062\u2063\u2064\ufeff"))
# They change how their neighbours are written: in Persian and Indic words, and between emoji.
JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))
PAIRS = (
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
)


@dataclass(frozen=True)
class FileOptions:
    """What the user said about their data; `text_columns` empty and `label_column` None are guessed.

    `train`, `test` and `validation` are files or ids of data sets.
    """

    train: str | Path | None
    test: str | Path | None
    validation: str | Path | None = None
    test_split: float | None = None
    text_columns: tuple[str, ...] = ()
    text_pair_column: str | None = None
    label_column: str | None = None
    limit: int | None = None
    limit_test: int | None = None
    deduplicate: bool = False
    seed: int = 0
    model: str | None = None
    fine_tune: bool = True


class Columns(NamedTuple):
    """The columns to read; several `text` ones are joined with a space."""

    text: tuple[str, ...]
    pair: str | None
    label: str

    def __str__(self) -> str:
        pair = f", second text from {self.pair!r}" if self.pair else ""
        joined = " joined with a space" if len(self.text) > 1 else ""
        return f"text from {' and '.join(map(repr, self.text))}{joined}{pair}, label from {self.label!r}"


class Row(NamedTuple):
    """One usable row of a file, its label still a name."""

    line: int
    text: str
    pair: str | None
    label: str


def load_files(options: FileOptions) -> Task:
    """The task in the user's files and data sets; see `make_task`."""
    _check(options)
    sources = {"train": options.train, "validation": options.validation, "test": options.test}
    given = {part: source for part, source in sources.items() if source is not None}
    return make_task({part: read_source(source, part) for part, source in given.items()}, options)


def read_source(source: str | Path, part: str) -> Table:
    """The rows of a file, or of a data set on a hub: its split `part`, unless the id names another.

    What exists here is a file, whatever it is called.
    """
    if not str(source):
        raise InputError(f"--{part}: the name is empty; give a file or the id of a data set")
    try:
        exists = Path(source).exists()
    except OSError as error:
        raise InputError(f"{source}: no such file ({error.strerror})") from None
    dataset = None if exists else parse_dataset_id(str(source), part)
    if dataset is not None:
        return read_dataset(dataset)
    if not exists and Path(source).suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{source}: no such file, and no id of a data set; write ORG/NAME[/CONFIG][@REVISION][:SPLIT]"
        )
    return read_table(Path(source))


def make_task(tables: dict[str, Table], options: FileOptions) -> Task:
    """The task in `tables`, by part. What was guessed, dropped, divided or found wrong is in its `notes`.

    The audit is of the splits as they would be without `--deduplicate`, before any limit.

    Raises InputError for options that contradict each other and rows that cannot be used, in one line.
    """
    rows, dropped, notes = _usable_rows(tables, options)
    first = next(iter(tables.values()))
    _check_labels(tables, rows)
    labelled = next(iter(rows.values()))
    labels = _labels(first.source, labelled)
    notes += _many_notes(tables, len(labelled), labels, options) + _alike_notes(labels)
    read = {part: _examples(tables[part].source, rows[part], labels) for part in rows}
    parts, divided = _divide(read, read, labels, options)
    splits = audit_splits(parts, labels)
    removed: dict[str, int] = {}
    if options.deduplicate:
        cleaned, removed, said = _deduplicated(read, tables, labels)
        # A checkpoint used as it came may have learnt from rows that are no longer here.
        parts, divided = _divide(cleaned, cleaned if options.fine_tune else read, labels, options)
        notes += said + divided + _learnt_notes(parts["test"])
    else:
        notes += divided + audit_notes(splits)
    notes += _limit_parts(parts, options, held_out="validation" not in tables)
    sizes = ", ".join(f"{len(rows):,} {part}" for part, rows in parts.items())
    source = first.source if first.origin else Path(first.source).name
    return Task(
        name=first.name,
        description=f"Rows from {source}: {sizes}; {len(labels)} classes.",
        labels=labels,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        model=options.model,
        fine_tune=options.fine_tune,
        notes=tuple(notes),
        dropped=dropped,
        audit=DataAudit(splits=splits, removed=removed),
    )


def _check(options: FileOptions) -> None:
    if (options.test is None) == (options.test_split is None):
        both = "both were" if options.test is not None else "neither was"
        raise InputError(f"give one of --test and --test-split; {both} given")
    if options.test_split is not None and not 0 < options.test_split < 1:
        raise InputError(f"--test-split {options.test_split:g} is not a share; give one between 0 and 1")
    if options.train is None:
        if options.fine_tune:
            raise InputError("fine-tuning needs rows to learn from; give --train")
        needy = {
            "--test-split": options.test_split,
            "--validation": options.validation,
            "--limit": options.limit,
        }
        for option, value in needy.items():
            if value is not None:
                raise InputError(f"{option} {value} needs training rows; give --train or leave it out")
    chosen = [*options.text_columns, options.text_pair_column, options.label_column]
    repeated = [name for name, count in Counter(chosen).items() if name is not None and count > 1]
    if repeated:
        raise InputError(f"column {repeated[0]!r} is named twice; text, second text and label must differ")


def _usable_rows(
    tables: dict[str, Table], options: FileOptions
) -> tuple[dict[str, list[Row]], dict[str, int], list[str]]:
    """The usable rows of each table, the counts of those dropped, by part and reason, and notes."""
    notes = [*_origin_notes(tables), *_same_source_notes(tables), *_header_notes(tables)]
    columns, guessed = choose_columns(next(iter(tables.values())), options)
    notes += guessed
    rows: dict[str, list[Row]] = {}
    dropped: dict[str, int] = {}
    for part, table in tables.items():
        own_columns, matched = _match(part, table, columns)
        rows[part], counts = _clean(table, own_columns)
        dropped |= {f"{part}: {reason}": count for reason, count in counts.items()}
        notes += matched + _mark_notes(part, table, own_columns) + _dropped_notes(part, table, counts)
    return rows, dropped, notes


def _origin_notes(tables: dict[str, Table]) -> list[str]:
    return [f"{part}: {table.origin}" for part, table in tables.items() if table.origin]


def _same_source_notes(tables: dict[str, Table]) -> list[str]:
    return [
        f"{one} and {other} are the same file: results on it say nothing about new rows"
        for one, other in itertools.combinations(tables, 2)
        if _same(tables[one].source, tables[other].source)
    ]


def _same(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(other).exists() and Path(one).samefile(other))


def _header_notes(tables: dict[str, Table]) -> list[str]:
    return [
        f"{part}: no header row (its first line reads like the others), "
        f"so its columns are called {', '.join(table.columns)}"
        for part, table in tables.items()
        if not table.has_header
    ]


def choose_columns(table: Table, options: FileOptions) -> tuple[Columns, list[str]]:
    """The columns of `table` to read, and a note where any was guessed.

    The usual names decide, or else what is in the columns: the label is the one column with few
    distinct short values, the text all those of words. Raises InputError for an unknown column, and
    for a guess that is not obvious.
    """
    given = [*options.text_columns, options.text_pair_column, options.label_column]
    for name in given:
        if name is not None and name not in table.columns:
            raise InputError(
                f"{table.source} has no column {name!r}; {did_you_mean(name, list(table.columns))}"
            )
    text, pair, label = options.text_columns, options.text_pair_column, options.label_column
    free = [name for name in table.columns if name not in given]
    if not text and not pair:
        text, pair = _guess_pair(free)
    named_text = text or tuple(name for name in free if bare_name(name) in TEXT_NAMES)
    label = label or _guess_label(table, [name for name in free if name not in (*named_text, pair)])
    text = named_text or _guess_text(table, [name for name in free if name not in (pair, label)])
    columns = Columns(text, pair, label)
    if options.text_columns and options.label_column:
        return columns, []
    unused = [name for name in table.columns if name not in (*text, pair, label)]
    left_out = f"; left out: {_listed(unused, NAMED_COLUMNS)}" if unused else ""
    return columns, [f"guessed: {columns} (--text-column, --label-column){left_out}"]


def _guess_pair(names: list[str]) -> tuple[tuple[str, ...], str | None]:
    spelled = {name.strip().casefold().replace("_", ""): name for name in names}
    for one, other in PAIRS:
        if one in spelled and other in spelled:
            return (spelled[one],), spelled[other]
    return (), None


def _guess_label(table: Table, names: list[str]) -> str:
    found = [name for name in names if bare_name(name) in LABEL_NAMES]
    found = found or [name for name in names if not _is_id(name) and _few_and_short(_values(table, name))]
    if len(found) != 1:
        raise InputError(
            f"{table.source}: {'several columns' if found else 'no column'} could be the label"
            f"; name it with --label-column: {_listed(found or table.columns, NAMED_COLUMNS)}"
        )
    return found[0]


def _guess_text(table: Table, names: list[str]) -> tuple[str, ...]:
    values = {name: _values(table, name) for name in names if not _is_id(name)}
    found = [name for name in values if _wordy(values[name]) and not _few_and_short(values[name])]
    if not found:
        raise InputError(
            f"{table.source}: no column reads like text; name it with --text-column: "
            f"{_listed(table.columns, NAMED_COLUMNS)}"
        )
    return tuple(found)


def _values(table: Table, name: str) -> list[str]:
    place = table.columns.index(name)
    return [value for row in table.rows if (value := (row[place] or "").strip())]


def _is_id(name: str) -> bool:
    word = name.strip().casefold()
    return word in ("id", "idx", "index", "guid", "uuid", "key") or word.endswith(("_id", " id", "-id"))


def _few_and_short(values: list[str]) -> bool:
    distinct = set(values)
    return 2 <= len(distinct) <= len(values) / 2 and max(map(len, distinct)) <= LONGEST_NAME


def _wordy(values: list[str]) -> bool:
    """Whether most values are words: with spaces between them, or in a script that may need none."""
    words = sum(
        (" " in value or not value.isascii()) and any(character.isalpha() for character in value)
        for value in values
    )
    return words > len(values) / 2


def _match(part: str, table: Table, columns: Columns) -> tuple[Columns, list[str]]:
    """`columns` as `table` spells them, and a note for each that differs by case."""
    notes = []

    def own(name: str) -> str:
        if name in table.columns:
            return name
        same = [other for other in table.columns if other.strip().casefold() == name.strip().casefold()]
        if len(same) != 1:
            known = did_you_mean(name, list(table.columns))
            raise InputError(f"{table.source} has no column {name!r} as the others have; rename it; {known}")
        notes.append(f"{part}: column {same[0]!r} is read as {name!r}")
        return same[0]

    text = tuple(own(name) for name in columns.text)
    return Columns(text, own(columns.pair) if columns.pair else None, own(columns.label)), notes


def _clean(table: Table, columns: Columns) -> tuple[list[Row], dict[str, int]]:
    """The usable rows of `table`, stripped, and how many were dropped for each reason."""
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    used = [name for name in (*columns.text, columns.pair, columns.label) if name is not None]
    places = {name: table.columns.index(name) for name in used}
    for line, cells in zip(table.lines, table.rows, strict=True):
        cell = {name: (cells[place] or "").strip() for name, place in places.items()}
        text = " ".join(cell[name] for name in columns.text if cell[name])
        pair = cell[columns.pair] if columns.pair else None
        label = _trimmed(cell[columns.label])
        if table.has_header and _repeats_header(cell, columns):
            dropped["repeated header"] += 1
        elif not text:
            dropped["no text"] += 1
        elif pair == "":
            dropped["no second text"] += 1
        elif not label:
            dropped["no label"] += 1
        else:
            rows.append(Row(line, text, pair, label))
    return rows, dict(dropped)


def _repeats_header(cell: dict[str, str], columns: Columns) -> bool:
    """Whether a row is the header again, as files glued together have it: its label cell the label
    column's name, its texts their columns' names or nothing. A class of that name keeps its real rows.
    """
    texts = [*columns.text, columns.pair] if columns.pair else columns.text
    return bare_name(cell[columns.label]) == bare_name(columns.label) and all(
        bare_name(cell[name]) in ("", bare_name(name)) for name in texts if name
    )


def _trimmed(label: str) -> str:
    """`label` without white space and direction marks at its ends, where spreadsheets leave these."""
    while (shorter := label.strip().strip(DIRECTION_MARKS)) != label:
        label = shorter
    return label


def _mark_notes(part: str, table: Table, columns: Columns) -> list[str]:
    marked = sum(_trimmed(value) != value for value in _values(table, columns.label))
    said = "direction marks (U+061C, U+200E, U+200F) at the ends of their labels are left out"
    return [f"{part}: {marked:,} of {len(table.rows):,} rows: {said}"] if marked else []


def _dropped_notes(part: str, table: Table, counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    total = sum(counts.values())
    said = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    if total >= WORST_DROPPED_SHARE * len(table.rows):
        raise InputError(
            f"{table.source}: {total:,} of {len(table.rows):,} rows cannot be used ({said}); "
            "clean the file or name other columns with --text-column and --label-column"
        )
    return [f"{part}: {total:,} of {len(table.rows):,} rows dropped ({said})"]


def _check_labels(tables: dict[str, Table], rows: dict[str, list[Row]]) -> None:
    """Raise `InputError` for a label that cannot be a name, in whichever file it stands.

    A label goes into every table and file that is written, so it must be short, hold nothing that ends a
    line or turns the text around it, and look like no other. In texts the same characters are data, and stay.
    """
    places: dict[str, str] = {}
    for part, table in tables.items():
        for row in rows[part]:
            places.setdefault(row.label, f"{table.source} line {row.line}")
    alike: dict[str, str] = {}
    for label, place in places.items():
        if len(label) > LONGEST_LABEL:
            raise InputError(
                f"{place}: a label of {len(label):,} characters; {LONGEST_LABEL} are the most: "
                "name the column of the labels with --label-column"
            )
        shown = label.translate(UNSEEN)
        if visible(shown) != shown:
            raise InputError(f"{place}: the label {label!r} holds a control character; take it out")
        if not shown.translate(JOINERS).strip():
            raise InputError(f"{place}: nothing of the label {label!r} can be seen; give it a name")
        look = " ".join(_normal(shown).split())
        other = alike.setdefault(look, label)
        if other != label:
            by_form = _normal(label) == _normal(other)
            raise InputError(
                f"{place}: the label {label!a} looks like {other!a} ({places[other]}); write both "
                f"{'in normal form C of Unicode' if by_form else 'with the same spaces and nothing unseen'}"
            )


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _labels(source: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """The label names in order: numbers by value, then words. Raises InputError for one alone."""
    labels = tuple(sorted({row.label for row in rows}, key=lambda name: (_value(name), name)))
    if len(labels) == 1:
        raise InputError(f"{source}: every row has the label {labels[0]!r}; a classifier needs two or more")
    return labels


def _many_notes(
    tables: dict[str, Table], rows: int, labels: tuple[str, ...], options: FileOptions
) -> list[str]:
    """A note on labels so many, and of so few rows each, that they are hardly classes.

    Fewer than two rows each where some are to be held out for the test, or a few each of amounts, which only
    look like classes. Raises InputError for them where the column was guessed. Without training rows nothing
    is asked: a checkpoint says what the classes are.
    """
    if len(labels) <= MANY_LABELS or "train" not in tables:
        return []
    values = [_value(name) for name in labels]
    amounts = all(map(math.isfinite, values)) and not all(value.is_integer() for value in values)
    least = 1 if "test" in tables else 2
    if rows >= (ROWS_PER_AMOUNT if amounts else least) * len(labels):
        return []
    what = f"{len(labels):,} different labels in {rows:,} rows, such as {labels[0]!r},"
    if options.label_column:
        return [f"train: {what} are taken as classes (--label-column)"]
    raise InputError(
        f"{tables['train'].source}: {what} are hardly classes; name their column with --label-column, "
        "this one too if it is meant, or put amounts into ranges"
    )


def _value(name: str) -> float:
    """`name` as a number, infinite where it is none."""
    try:
        value = float(name)
    except ValueError:
        return math.inf
    return value if math.isfinite(value) else math.inf


def _alike_notes(labels: tuple[str, ...]) -> list[str]:
    """Notes on labels that are easily taken for each other, and that may well be the same one misspelt."""
    notes = []
    kinds: dict[str, Callable[[str], str]] = {
        "case": str.casefold,
        "joiners (U+200C, U+200D)": lambda label: label.translate(JOINERS),
    }
    for what, bare in kinds.items():
        same: dict[str, list[str]] = {}
        for label in labels:
            same.setdefault(bare(label), []).append(label)
        notes += [
            f"the labels {' and '.join(map(repr, names))} differ by {what} alone, "
            "and are classes of their own"
            for names in same.values()
            if len(names) > 1
        ]
    return notes


def _examples(source: str, rows: Sequence[Row], labels: tuple[str, ...]) -> Rows:
    number = {label: place for place, label in enumerate(labels)}
    strangers = [row for row in rows if row.label not in number]
    if strangers:
        lines = {row.label: row.line for row in reversed(strangers)}
        said = ", ".join(f"{label!r} (line {line})" for label, line in sorted(lines.items())[:NAMED])
        raise InputError(
            f"{source}: {len(strangers):,} rows have labels that no training row has: {said}"
            f"{_and_more(len(lines))}; known: {', '.join(labels[:NAMED])}{_and_more(len(labels))}"
        )
    return tuple(Example(row.text, number[row.label], row.pair) for row in rows)


def _listed(names: Sequence[str], most: int = NAMED) -> str:
    return ", ".join(map(repr, names[:most])) + _and_more(len(names), most)


def _and_more(count: int, most: int = NAMED) -> str:
    return f" and {count - most:,} more" if count > most else ""


def _deduplicated(
    read: dict[str, Rows], tables: dict[str, Table], labels: tuple[str, ...]
) -> tuple[dict[str, Rows], dict[str, int], list[str]]:
    """What `deduplicate` leaves of each file, the counts of what it removed, and notes on that.

    Raises InputError where the file that the labels come from loses one, or another all its rows.
    """
    cleaned, removed = deduplicate(read)
    notes = []
    for part, rows in cleaned.items():
        source, before = tables[part].source, read[part]
        why = ", ".join(f"{count:,} {reason}" for reason, count in removed[part].items())
        if why:
            gone = len(before) - len(rows)
            notes.append(f"{part}: {gone:,} of {len(before):,} rows removed ({why}; --deduplicate)")
        lost = [labels[label] for label in sorted(_classes(before) - _classes(rows))]
        said = _listed(lost)
        if lost and (not rows or part == next(iter(cleaned))):
            raise InputError(
                f"{source}: --deduplicate leaves no row of {said} ({why}); leave it out or add rows"
            )
        if lost:
            notes.append(f"{part}: no rows of {said} are left (--deduplicate)")
    flat = {f"{part}: {reason}": n for part, counts in removed.items() for reason, n in counts.items()}
    return cleaned, flat, notes


def _learnt_notes(test: Rows) -> list[str]:
    """A note where test rows of cleaned files stand in what a checkpoint may have been trained on."""
    known = sum(row.seen for row in test)
    said = "stand in the training file, which the checkpoint may know; accuracy is given on the others too"
    return [f"test: {known:,} of {len(test):,} rows {said}"] if known else []


def _divide(
    files: dict[str, Rows], learnt: dict[str, Rows], labels: tuple[str, ...], options: FileOptions
) -> tuple[dict[str, Rows], list[str]]:
    """The three parts, those without a file taken from train; and what was done.

    Rows of a file are `seen` if their text stands in `learnt["train"]`, the whole training file: a
    checkpoint may have learnt from all of it. Rows taken from train are compared with what it keeps.
    """
    parts: dict[str, Rows] = {"train": (), "validation": (), "test": ()} | files
    notes: list[str] = []
    if options.test_split is not None:
        notes += _hold_out(parts, "test", options.test_split, labels, options)
    if "train" in files and "validation" not in files:
        notes += _hold_out(parts, "validation", VALIDATION_SHARE, labels, options)
    for part in ("validation", "test"):
        parts[part] = mark_seen(parts[part], (learnt if part in files else parts).get("train", ()))
    return parts, notes


def _limit_parts(parts: dict[str, Rows], options: FileOptions, held_out: bool) -> list[str]:
    """Limits `parts` as asked, and says so.

    The limits come after the splits, so that training has that many rows. Validation is held to the test
    rows' limit, since it is judged as they are; without one, what was `held_out` from train to train's.
    """
    notes: list[str] = []
    if options.limit is not None:
        notes += _limit(parts, "train", "--limit", options.limit, options.seed)
    if options.limit_test is not None:
        notes += _limit(parts, "test", "--limit-test", options.limit_test, options.seed)
    if options.limit_test is not None and parts["validation"]:
        notes += _limit(parts, "validation", "--limit-test", options.limit_test, options.seed)
    elif options.limit is not None and held_out and parts["validation"]:
        notes += _limit(parts, "validation", "--limit", options.limit, options.seed)
    return notes


def _classes(examples: Iterable[Example]) -> set[int]:
    return {example.label for example in examples}


def _hold_out(
    parts: dict[str, Rows], part: str, share: float, labels: tuple[str, ...], options: FileOptions
) -> list[str]:
    """Moves `share` of `parts["train"]` to `parts[part]`; notes on that."""
    parts["train"], parts[part] = split(parts["train"], share, options.seed)
    if not parts[part]:
        raise InputError(
            f"{options.train}: no class has two rows, so none can be held out; give --{part} a file"
        )
    notes = [
        f"{part}: {len(parts[part]):,} rows ({share:.0%}, by class) taken from train, seed {options.seed}"
    ]
    lone = [labels[label] for label in sorted(_classes(parts["train"]) - _classes(parts[part]))]
    if lone:
        notes.append(f"{part}: no rows of {_listed(lone)}; their only row each stays in train")
    return notes


def _limit(parts: dict[str, Rows], part: str, option: str, most: int, seed: int) -> list[str]:
    """Cuts `parts[part]` down to `most` rows; a note where that left any out."""
    rows, classes = len(parts[part]), len(_classes(parts[part]))
    if most < classes:
        raise InputError(
            f"{option} {most} cannot hold the {classes} classes of {part}; give {classes} or more"
        )
    parts[part] = limit(parts[part], most, seed)
    return (
        [f"{part}: {most:,} of {rows:,} rows kept, by class, seed {seed} ({option})"] if most < rows else []
    )
