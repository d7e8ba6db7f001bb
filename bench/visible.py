"""Text of unknown origin made safe for a terminal: what would act on it is shown as an escape instead."""

from __future__ import annotations

import re

# Control characters (ESC begins a terminal's commands, and so do others from 0x80 on), surrogates, which no
# encoding can write, ends of lines and paragraphs, and what reorders the text around it (the marks of Unicode
# Standard Annex #9; CVE-2021-42574 is what can be done with them). The joiners U+200C and U+200D are left:
# Indic and Persian spelling needs them.
ACTIVE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""`text` on one line; what would act on a terminal is spelled out in it, as `\x1b` or `\u202e`."""
    return ACTIVE.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
