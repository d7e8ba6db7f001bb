"""Names for lists of variants, and the expansion of what the user wrote into variants."""

from __future__ import annotations

import fnmatch
from itertools import combinations

from bench.errors import InputError, did_you_mean
from bench.nouns.run import DENSE
from compressors.registry import compressor_classes
from compressors.variant import Variant, check, check_text, parse_variant, split_variants

PRUNINGS = ("", "bmp25", "bmp50", "bmp75")


def grid(student: str) -> list[str]:
    """Pruning level x distillation x mixed precision: the study's sixteen variants, dense first."""
    return [
        "+".join(part for part in (pruning, distillation, precision) if part) or DENSE
        for precision in ("", "mp")
        for distillation in ("", student)
        for pruning in PRUNINGS
    ]


PRESETS: dict[str, tuple[str, list[str]]] = {
    "all": ("the study's 16: pruning at 0/25/50/75 % x distillation x mixed precision", grid("kd")),
    "study": ("the same with students of full depth", grid("kd:layers=all")),
    "fast": ("what needs no training", [DENSE, "mp"]),
    "modern": (
        "pruning with and without training, quantisation, engines, no padding; the best of each together",
        [
            DENSE,
            *("ft", "bmp50", "bmp50+kd:layers=all,match=dynamic", "fisher25", "fisher50", "vocab"),
            *("int8", "onnx", "onnx:int8", "compile", "mp+compile", "int8+compile", "graphs", "fp8"),
            *("unpadded", "sorted", "unpadded+sorted"),
            *("bmp50+unpadded+sorted", "bmp50+onnx:int8+sorted", "fisher50+onnx:int8+sorted"),
        ],
    ),
}


def expand(text: str, device: str, attribute: bool = False) -> list[Variant]:
    """The variants that a comma list of presets, globs and specs names, dense first, each once.

    With `attribute` also what each combination is made of: its parts alone, its pairs and so on. Raises
    `InputError` for names that match nothing and combinations that do not work.
    """
    specs: list[str] = []
    known = [*PRESETS["all"][1], "ft"]
    for word in split_variants(text):
        check_text(word)
        if word in PRESETS:
            specs += PRESETS[word][1]
        elif ":" not in word and any(sign in word for sign in "*?["):
            matching = fnmatch.filter(known, word)
            if not matching:
                raise InputError(f"variant {word!r} matches nothing; {did_you_mean(word, known)}")
            specs += matching
        elif word.isalpha() and word not in known_names():
            raise InputError(f"unknown variant {word!r}: {did_you_mean(word, known_names())}")
        else:
            specs.append(word)
    if not specs:
        raise InputError("no variant named; bench list shows them")
    variants: dict[str, Variant] = {DENSE: Variant()}
    for spec in specs:
        variant = parse_variant(spec)
        check(variant, device)
        for made in (*(ingredients(variant) if attribute else ()), variant):
            variants.setdefault(made.name, made)
    return list(variants.values())


def ingredients(variant: Variant) -> list[Variant]:
    """Every combination of some of the variant's parts, the smallest first."""
    counts = range(1, len(variant.parts))
    return [Variant(some) for count in counts for some in combinations(variant.parts, count)]


def known_names() -> list[str]:
    """Presets and techniques: the words that stand alone."""
    return [DENSE, *PRESETS, *compressor_classes()]
