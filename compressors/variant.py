"""A variant: compressors in phase order, and the one spelling that names it.

    variants = variant , { "," , variant }
    variant  = part , { "+" , part }
    part     = technique , [ percent ] , [ ":" , setting , { "," , setting } ]
    setting  = field , "=" , value  |  value

`bmp25` sets the technique's `number` field to 0.25, a bare value its `argument` field (`load:PATH`).
A comma is followed by a setting where the text up to the next comma starts with `field=`, else by the
next variant.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, get_type_hints

from bench.errors import InputError, did_you_mean
from bench.nouns.run import DENSE
from compressors.contract import Compressor, Phase
from compressors.registry import compressor_classes

PART = re.compile(r"(?P<name>[a-z][a-z_]*)(?P<number>\d+(?:\.\d+)?)?(?::(?P<settings>.*))?", re.DOTALL)
SPELLING_ORDER = (Phase.MASKS, Phase.ARCHITECTURE, Phase.PRECISION, Phase.RUNTIME)
SETTING = re.compile(r"\s*[a-z_]+=")


@dataclass(frozen=True)
class Variant:
    """A name and its compressors; `dense` has none."""

    parts: tuple[Compressor, ...] = ()

    @property
    def name(self) -> str:
        """The canonical spelling: the pruning first, only fields that differ from their defaults."""
        spelled = sorted(self.parts, key=lambda part: SPELLING_ORDER.index(part.phase))
        return "+".join(spell(part) for part in spelled) or DENSE

    @property
    def trains(self) -> bool:
        """Whether making it takes fine-tuning."""
        return any(part.trains for part in self.parts)

    @property
    def autocast(self) -> str | None:
        """The dtype to train in under autocast, or None."""
        return next((part.autocast for part in self.parts if part.autocast), None)

    @property
    def removed_share(self) -> float:
        """The largest share of encoder weights that one of its parts removes."""
        return max((part.removes for part in self.parts), default=0.0)


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
    parts = sorted((parse_part(part) for part in spec.split("+")), key=lambda part: part.phase)
    return Variant(tuple(parts))


def parse_part(text: str) -> Compressor:
    """One compressor from its spelling."""
    match = PART.fullmatch(text.strip())
    known = compressor_classes()
    if not match or match["name"] not in known:
        word = match["name"] if match else text
        raise InputError(f"unknown variant {text!r}: {did_you_mean(word, [DENSE, *known])}")
    kind = known[match["name"]]
    settings = dict(read_setting(kind, piece) for piece in (match["settings"] or "").split(",") if piece)
    if match["number"]:
        if kind.number is None:
            raise InputError(f"{text!r}: {kind.name} takes no number; write {kind.name}")
        settings[kind.number] = round(float(match["number"]) / 100, 6)
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
    try:
        return field, CONVERT[types[field]](value.strip())
    except (ValueError, KeyError):
        wanted = types[field].__name__
        raise InputError(f"{kind.name}: {field}={value} is not a value of type {wanted}") from None


CONVERT: dict[type, Any] = {
    str: str,
    int: int,
    float: float,
    bool: {"true": True, "false": False}.__getitem__,
}


def spell(part: Compressor) -> str:
    """The canonical spelling of one compressor."""
    text, settings = part.name, []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.name == part.number and is_whole_percent(value):
            text += f"{value * 100:.0f}"
        elif value != field.default:
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            settings.append(shown if field.name == part.argument else f"{field.name}={shown}")
    return text + (":" + ",".join(settings) if settings else "")


def is_whole_percent(share: float) -> bool:
    """Whether a share is spelled exactly by a whole number of percent."""
    return abs(share * 100 - round(share * 100)) < 1e-9 and 0 <= share < 1


def check(variant: Variant, device: str) -> None:
    """Raise `InputError` where a setting is unusable or two parts cannot work together."""
    for part in variant.parts:
        part.validate(device)
    for i, first in enumerate(variant.parts):
        for second in variant.parts[i + 1 :]:
            if type(first) is type(second):
                raise InputError(f"{variant.name}: {first.name} is named twice; keep one")
            reason = first.refuses(second) or second.refuses(first)
            if reason:
                raise InputError(f"{variant.name}: {first.name} and {second.name} do not combine: {reason}")
