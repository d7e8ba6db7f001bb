"""Files that a task brings from the web: downloaded once, and checked whenever they are used."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from bench.errors import InputError, in_one_line

RECORD = ".sha256"


def cached_file(url: str, source: str, revision: str, sha256: str | None = None) -> Path:
    """The file at `url`, kept in the hub's cache of assets below `bench/SOURCE/REVISION`.

    Its content must have the checksum `sha256`. Where that is None, the checksum is recorded beside the file
    at first download and verified on every later use: a later change is noticed, a wrong first download
    is not.

    `HF_HUB_OFFLINE` and the usual proxy variables hold as they do for the hub. Raises InputError where the
    file cannot be had or has changed; a download that breaks off leaves nothing.
    """
    from huggingface_hub import cached_assets_path

    name = url.rpartition("/")[2]
    try:
        folder = cached_assets_path(library_name="bench", namespace=source, subfolder=revision)
        file, record = folder / name, folder / (name + RECORD)
        if not file.exists():
            download(url, file, record, sha256)
        expected = sha256 or (record.read_text().strip() if record.exists() else None)
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be kept in the cache ({in_one_line(error)}); see HF_HOME") from None
    if found != expected:
        raise InputError(f"{file} is not as it was downloaded; delete it to download it again")
    return file


def download(url: str, file: Path, record: Path, sha256: str | None) -> None:
    """Put what is at `url` into `file` and its checksum into `record`, if it has the checksum `sha256`."""
    with tempfile.TemporaryDirectory(dir=file.parent) as work:
        part, noted = Path(work) / file.name, Path(work) / record.name
        found = stream(url, part)
        if sha256 not in (None, found):
            raise InputError(f"{url}: its checksum is {found} and should be {sha256}; nothing was kept")
        noted.write_text(found + "\n")
        noted.replace(record)
        part.replace(file)


def stream(url: str, part: Path) -> str:
    """Write what is at `url` to `part`; its SHA-256. Raises InputError, and OSError where writing fails."""
    from huggingface_hub import constants, get_session
    from rich.console import Console
    from rich.progress import Progress

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{url}: not downloaded yet, and HF_HUB_OFFLINE is set; unset it once")
    session, timeout = get_session(), constants.HF_HUB_DOWNLOAD_TIMEOUT
    errors, digest = Console(stderr=True), hashlib.sha256()
    bar = Progress(console=errors, transient=True, disable=not errors.is_terminal)
    plain = {"Accept-Encoding": "identity"}  # so that what is counted is what was announced
    try:
        with (
            session.stream("GET", url, timeout=timeout, headers=plain) as answer,
            part.open("wb") as out,
            bar,
        ):
            check_answer(url, answer)
            size = answer.headers.get("Content-Length")
            shown = bar.add_task(part.name, total=int(size) if size else None)
            for chunk in answer.iter_bytes():
                out.write(chunk)
                digest.update(chunk)
                bar.update(shown, advance=len(chunk))
    except (InputError, OSError):
        raise
    except Exception as error:  # whatever the network's library raises, which is the hub's choice
        raise InputError(
            f"{url}: cannot be downloaded ({in_one_line(error)}); BENCH_DATA_ENDPOINT can name a mirror"
        ) from None
    return digest.hexdigest()


def check_answer(url: str, answer: Any) -> None:
    """Raise InputError for anything but a file; a proxy's or a portal's page comes as 200 too."""
    page = answer.headers.get("Content-Type", "").startswith("text/html")
    if answer.status_code != 200 or page:
        said = f"{answer.status_code} {answer.reason_phrase}{', a web page' if page else ''}"
        raise InputError(f"{url}: the answer is {said}; see BENCH_DATA_ENDPOINT")
