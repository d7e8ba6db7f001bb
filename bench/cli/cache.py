"""`bench cache`: what earlier runs left to be taken over, and how to be rid of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import CacheFolder
from bench.cli.shared import terminal
from bench.errors import InputError

DEFAULT = Path(".bench/cache")

app = typer.Typer(help="Show finished steps that later runs take over, or clear them.")


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    cache: CacheFolder = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="The list on stdout, as JSON.")] = False,
) -> None:
    """Show finished steps that later runs take over, or clear them."""
    if context.invoked_subcommand:
        if cache != DEFAULT or as_json:
            raise InputError("cache: options of clear go behind it, bench cache clear --cache FOLDER")
        return
    from bench.clearing import contents
    from reports.cache import render

    found = contents(cache)
    if not as_json:
        render(found, str(cache), terminal())
        return
    lines = [
        {
            "id": entry.folder.name,
            "kind": entry.kind,
            "variant": entry.request.variant if entry.request else None,
            "device": entry.request.device if entry.request else None,
            "seed": entry.request.seed if entry.request else None,
            "size_bytes": entry.size_bytes,
            "used": entry.used.isoformat(timespec="seconds"),
        }
        for entry in found
    ]
    sys.stdout.write(json.dumps(lines, indent=2) + "\n")


@app.command()
def clear(
    cache: CacheFolder = DEFAULT,
    kind: Annotated[
        str | None,
        typer.Option(help="dense, teacher, compress, timing, footprint, profile, task or unfinished alone."),
    ] = None,
    variant: Annotated[str | None, typer.Option(metavar="GLOB", help="Of these variants alone.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Not used for so long: 12h, 30d, 4w.")
    ] = None,
) -> None:
    """Remove finished steps; what runs have kept in their own folders stays."""
    from bench.clearing import Chosen
    from bench.clearing import clear as clear_cache
    from bench.options import read_duration_s
    from reports.cache import render_removed

    chosen = Chosen(kind, variant, read_duration_s("--older-than", older_than))
    found, freed = clear_cache(cache, chosen)
    render_removed(found, freed, str(cache), terminal())
