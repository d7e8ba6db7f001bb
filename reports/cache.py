"""A cache's contents on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from reports.numbers import BYTES, counted, quantity
from reports.terminal import literal, show

if TYPE_CHECKING:
    from bench.clearing import Entry

HEADS = ("Id", "Kind", "Variant", "Device", "Seed", "Size", "Last used")


def render(found: Sequence[Entry], place: str, console: Console) -> None:
    """Print the entries of the cache at `place`, the last used first, and what they take together."""
    if not found:
        show(console, [literal(f"nothing in {place}")])
        return
    table = Table(*HEADS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for entry in sorted(found, key=lambda entry: entry.used, reverse=True):
        request = entry.request
        told = (request.variant, request.device, str(request.seed)) if request else ("–", "–", "–")
        size, used = quantity(entry.size_bytes, BYTES), f"{entry.used.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(*map(literal, (entry.folder.name, entry.kind, *told, size, used)))
    total = quantity(sum(entry.size_bytes for entry in found), BYTES)
    show(console, [table, literal(f"{counted(len(found), 'folder')}, {total} in {place}")])


def render_removed(found: Sequence[Entry], freed_bytes: int, place: str, console: Console) -> None:
    """Print what was taken out of the cache at `place`, and how much of it other links keep on the disk."""
    if not found:
        show(console, [literal(f"nothing to remove in {place}")])
        return
    freed, kept = quantity(freed_bytes, BYTES), sum(entry.size_bytes for entry in found) - freed_bytes
    rest = f"; {quantity(kept, BYTES)} stay, since run folders hold the same files" if kept else ""
    show(console, [literal(f"removed {counted(len(found), 'folder')} from {place}, {freed} freed{rest}")])
