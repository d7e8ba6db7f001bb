"""A variant: compressors in phase order, and the one spelling that names it.

    variants = variant , { "," , variant }
    variant  = part , { "+" , part }
    part     = technique , [ percent ] , [ ":" , setting , { "," , setting } ]
    setting  = field , "=" , value  |  value

`bmp25` sets the technique's `number` field to 0.25, a bare value its `argument` field (`load:PATH`). A
technique's own name may end in digits: the longest name that fits is meant.
A comma is followed by a setting where the text up to the next comma starts with `field=`, else by the
next variant.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Any, get_type_hints

from bench.errors import InputError, Refusal, did_you_mean
from bench.nouns.run import DENSE
from bench.visible import visible
from compressors.contract import Compressor, Phase
from compressors.hub import is_named
from compressors.registry import compressor_classes

LONGEST = 1_000
PERCENT = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]+)?)?")
SPELLING_ORDER = (Phase.MASKS, Phase.ARCHITECTURE, Phase.PRECISION, Phase.RUNTIME, Phase.BATCHING)
ONE_OF_EACH = {
    Phase.MASKS: "each decides by itself which heads and neurons leave",
    Phase.PRECISION: "weights have one precision",
    Phase.RUNTIME: "a model is run by one engine",
    Phase.BATCHING: "rows are put into batches in one way",
}
TRAINING_MOMENTS = ("loss", "on_step", "parameter_groups", "needs_hidden_states")
# But for `continues`, which reads an artifact: it may have to be fetched first.
DECLARED: dict[str, tuple[type, ...]] = {
    "removes": (int, float),
    "checkpoints": (tuple, list),
    "origins": (tuple, list),
    "files": (tuple, list),
    "needs_teacher": (bool,),
    "measures_device": (bool,),
    "autocast": (str, NoneType),
}
HOLD: dict[str, type] = {"checkpoints": str, "origins": str, "files": Path}
PROJECT = "compressed-transformer-bench"
SETTING = re.compile(r"\s*[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Variant:
    """A name and its compressors; `dense` has none."""

    parts: tuple[Compressor, ...] = ()

    @property
    def name(self) -> str:
        """The canonical spelling: the pruning first, only fields that differ from their defaults."""
        return "+".join(self.spelled_parts) or DENSE

    @property
    def spelled_parts(self) -> list[str]:
        """Its compressors as the name spells them, in that order."""
        ordered = sorted(self.parts, key=lambda part: SPELLING_ORDER.index(part.phase))
        return [spell(part) for part in ordered]

    @property
    def setting(self) -> Variant:
        """Its precision and engine, or those of the artifact it goes on from: how dense runs as its equal."""
        known = (*self.parts, *self.continued.parts)
        return Variant(tuple(part for part in known if part.phase in (Phase.PRECISION, Phase.RUNTIME)))

    @property
    def continued(self) -> Variant:
        """What made the artifact that it goes on from; nothing where it goes on from none of ours."""
        return Variant(tuple(made for part in self.parts for made in part.continues))

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """What its parts read besides dense."""
        return tuple(name for part in self.parts for name in part.checkpoints)

    @property
    def trained(self) -> Variant:
        """What its training depends on, which other variants may share; nothing where it has none.

        The other parts act on the finished model alone.
        """
        if not self.trains:
            return Variant()
        return Variant(tuple(part for part in self.parts if takes_part(part)))

    def without(self, other: Variant) -> Variant:
        """Its parts that `other` does not have."""
        return Variant(tuple(part for part in self.parts if part not in other.parts))

    @property
    def trains(self) -> bool:
        """Whether making it takes fine-tuning."""
        return any(part.trains for part in self.parts)

    @property
    def autocast(self) -> str | None:
        """The dtype to train in under autocast, or None."""
        return next((part.autocast for part in self.parts if part.autocast), None)

    @property
    def needs_teacher(self) -> bool:
        """Whether any part learns from dense's logits."""
        return any(part.needs_teacher for part in self.parts)

    @property
    def removed_share(self) -> float:
        """The largest share of encoder weights that one of its parts removes."""
        return max((part.removes for part in self.parts), default=0.0)


def takes_part(part: Compressor) -> bool:
    """Whether a part acts before or while the variant is fine-tuned, and not on the finished model alone."""
    own = type(part)
    moments = any(getattr(own, name) is not getattr(Compressor, name) for name in TRAINING_MOMENTS)
    return part.phase < Phase.PRECISION or part.trains or part.autocast is not None or moments


def split_variants(text: str) -> list[str]:
    """The specs in a comma list; commas between a part's settings do not separate."""
    specs: list[str] = []
    for piece in text.split(","):
        if specs and SETTING.match(piece):
            specs[-1] += "," + piece
        elif piece.strip():
            specs.append(piece)
    return [spec.strip() for spec in specs]


def parse_variant(spec: str) -> Variant:
    """The variant that `spec` spells. Raises `InputError` for an unknown name, field or value."""
    if spec == DENSE:
        return Variant()
    check_text(spec)
    parts = sorted((parse_part(part) for part in split_parts(spec)), key=lambda part: part.phase)
    return Variant(tuple(parts))


def check_text(spec: str) -> None:
    """Raise `InputError` for a spec that no one can read: names of variants stand in every table."""
    if len(spec) > LONGEST:
        raise InputError(
            f"unknown variant {visible(spec[:20])}…: it has {len(spec):,} characters, over {LONGEST:,}"
        )
    if visible(spec) != spec:
        raise InputError(f"unknown variant {visible(spec)}: it holds control characters; leave them out")


def split_parts(spec: str) -> list[str]:
    """The parts between plus signs, but for those inside a path that exists: `load:runs/x/bmp25+kd`."""
    pieces = spec.split("+")
    parts: list[str] = []
    while pieces:
        taken = 1
        value = pieces[0].partition(":")[2]
        # A path may hold an equals sign itself, as the folder of an artifact made by `kd:layers=4` does.
        openings = [value[found.end() :] for found in re.finditer("^|[,=]", value)]
        for end in range(2, len(pieces) + 1):
            paths = ("+".join([opening, *pieces[1:end]]) for opening in openings)
            if ":" in pieces[0] and any(is_named(path) for path in paths):
                taken = end
        parts.append("+".join(pieces[:taken]))
        pieces = pieces[taken:]
    return parts


def parse_part(text: str) -> Compressor:
    """One compressor from its spelling."""
    known = compressor_classes()
    word, _, rest = text.strip().partition(":")
    word = word.strip()
    if word == DENSE:
        raise InputError(f"{text!r}: {DENSE} stands for nothing compressed; it takes and joins nothing")
    fitting = [name for name in known if word.startswith(name) and PERCENT.fullmatch(word[len(name) :])]
    if not fitting:
        raise InputError(
            f"unknown variant {text!r}: {did_you_mean(word.rstrip('.0123456789') or word, [DENSE, *known])}"
        )
    kind = known[max(fitting, key=len)]
    number = word.removeprefix(kind.name)
    settings: dict[str, Any] = {}
    if number:
        if kind.number is None:
            raise InputError(f"{text!r}: {kind.name} takes no number; write {kind.name}")
        settings[kind.number] = from_percent(float(number))
    for piece in rest.split(","):
        if piece.strip():
            field, value = read_setting(kind, piece)
            if field in settings:
                raise InputError(f"{text!r}: {field} is given twice; keep one")
            settings[field] = value
    return kind(**settings)


def read_setting(kind: type[Compressor], piece: str) -> tuple[str, Any]:
    """(field, value) of one setting, the value in the field's own type."""
    field, equals, value = piece.partition("=")
    if not equals and kind.argument:
        field, value = kind.argument, piece
    field = field.strip()
    types = {f.name: get_type_hints(kind)[f.name] for f in dataclasses.fields(kind)}
    if field not in types:
        raise InputError(f"{kind.name} has no setting {field!r}: {did_you_mean(field, list(types))}")
    if types[field] not in CONVERT:
        raise InputError(f"{kind.name}: {field} cannot be set; settings are of type str, int, float or bool")
    convert, wanted = CONVERT[types[field]]
    try:
        return field, convert(value.strip())
    except (ValueError, KeyError):
        raise InputError(f"{kind.name}: {field}={value} is not {wanted}") from None


def finite(text: str) -> float:
    """The number that `text` spells. Raises `ValueError` for nan and the infinities."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


CONVERT: dict[type, tuple[Callable[[str], Any], str]] = {
    str: (str, "a text"),
    int: (int, "a whole number"),
    float: (finite, "a number"),
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
}


def spell(part: Compressor) -> str:
    """The canonical spelling of one compressor."""
    text, settings = part.name, []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.name == part.number and (percent := as_percent(value)):
            text += percent
        elif value != field.default:
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            if isinstance(value, float):
                shown = shown.replace("e+", "e")
            bare = field.name == part.argument and "=" not in shown
            settings.append(shown if bare else f"{field.name}={shown}")
    return text + (":" + ",".join(settings) if settings else "")


def from_percent(percent: float) -> float:
    """A share; the rounding takes off what dividing adds, so that 33.3 gives 0.333."""
    return round(percent / 100, 12)


def as_percent(share: float) -> str:
    """The percent that spell `share` exactly: `25`, `12.5`; empty where too many digits are needed."""
    percent = f"{share * 100:.4f}".rstrip("0").rstrip(".")
    return percent if 0 < share < 1 and from_percent(float(percent)) == share else ""


def check(variant: Variant, device: str) -> None:
    """Raise `InputError` where a setting is unusable or two parts cannot work together.

    Whatever a part says of itself is asked once here, so that a plugin that cannot tell does so at once.
    """
    for part in variant.parts:
        part.validate(device)
        for name, types in DECLARED.items():
            if not isinstance(value := getattr(part, name), types):
                raise InputError(f"{part.name}: {name} is {value!r}, and must be of type {types[0].__name__}")
        if not 0 <= part.removes <= 1:
            raise InputError(f"{part.name}: removes is {part.removes}, and must lie between 0 and 1")
        for name, kind in HOLD.items():
            if wrong := [each for each in getattr(part, name) if not isinstance(each, kind)]:
                raise InputError(
                    f"{part.name}: {name} holds {wrong[0]!r}, and must hold type {kind.__name__}"
                )
    for i, first in enumerate(variant.parts):
        for second in variant.parts[i + 1 :]:
            if type(first) is type(second):
                raise InputError(f"{variant.name}: {first.name} is named twice; keep one")
            if reason := conflict(first, second):
                raise InputError(f"{variant.name}: {first.name} and {second.name} do not combine: {reason}")


def check_continued(variant: Variant) -> None:
    """Raise `InputError` where a part cannot work with what an artifact that the variant goes on from brings.

    The artifact has to be here.
    """
    for part in variant.parts:
        for made in part.continues:
            for other in variant.parts:
                later = made.phase >= Phase.PRECISION and other is not part
                if later and (reason := conflict(made, other)):
                    raise InputError(
                        f"{variant.name}: the artifact was made with {made.name}, and {made.name} and "
                        f"{other.name} do not combine: {reason}"
                    )


def conflict(first: Compressor, second: Compressor) -> str | None:
    """Why two techniques cannot be of one variant, or None."""
    alike = ONE_OF_EACH.get(first.phase) if first.phase == second.phase else None
    return first.refuses(second) or second.refuses(first) or alike


def refuse_missing_packages(variant: Variant) -> None:
    """Raise `Refusal` with the command that installs it where a part needs a package that is not here."""
    for part in variant.parts:
        for package in part.packages:
            if find_spec(package) is None:
                assert part.extra is not None
                command = f"pip install '{PROJECT}[{part.extra}]'"
                raise Refusal(f"{part.name} needs {package}, which is not installed: {command}")
