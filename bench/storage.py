"""What several machines share, by URL: folders by name, each there whole or not at all.

Whatever fsspec opens serves: `s3://…`, `gs://…`, `file:///mnt/…`, a plain path.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BenchError, InputError, in_one_line
from bench.nouns.profile import inside

LISTING = "files.json"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+=-]*)*")
TOKEN_BYTES = 8


class Listing(BaseModel):
    """The files of a kept folder: below which token they lie, and the bytes of each by its path there."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: str = Field(pattern=r"^[0-9a-f]+$")
    sizes: dict[Annotated[str, AfterValidator(inside)], int]


class Storage:
    """Folders below a URL. Whatever goes wrong there is an `InputError` that names the URL.

    Files go below a token of their own, and the listing that names it goes last: two machines that keep the
    same name do not mix, and one that is killed leaves nothing that looks whole.
    """

    def __init__(self, url: str) -> None:
        refuse_secrets(url)
        self.shown = url
        with self._told("opened"):
            import fsspec
            from fsspec.implementations.local import LocalFileSystem

            # What other machines have kept meanwhile must be seen.
            self._files, root = fsspec.url_to_fs(url, use_listings_cache=False)
            self._root = str(root).rstrip("/")
            self._is_local = isinstance(self._files, LocalFileSystem)
        # Another machine, or a process that works elsewhere, must find the same.
        self.url = self._root if self._is_local else url

    def __str__(self) -> str:
        return self.shown

    def check(self) -> None:
        """Raise `InputError` unless files can be written, read and removed; nothing is left behind."""
        name = f"check-{secrets.token_hex(TOKEN_BYTES)}"
        with self._told("written"):
            self._make_folder(self._place(name))
            self._files.pipe_file(self._place(name, LISTING), b"{}")
            self._files.cat_file(self._place(name, LISTING))
            self._files.rm(self._place(name), recursive=True)

    def has(self, name: str) -> bool:
        """Whether a folder of this name is there, going by its listing."""
        return self._listing(name) is not None

    def keep(self, files: Mapping[str, Path], name: str) -> None:
        """Keep `files`, by their paths below the folder, under `name`, in place of what was there."""
        before = self._listing(name)
        listing = Listing(token=secrets.token_hex(TOKEN_BYTES), sizes={})
        with self._told("written"):
            for path, file in files.items():
                place = self._place(name, listing.token, path)
                self._make_folder(place.rpartition("/")[0])
                self._files.put_file(str(file), place)
                listing.sizes[path] = file.stat().st_size
            self._make_folder(self._place(name))
            self._files.pipe_file(self._place(name, LISTING), listing.model_dump_json().encode())
        if before:
            self._remove(self._place(name, before.token))

    def fetch(self, name: str, folder: Path) -> bool:
        """Bring a kept folder's files into `folder`; False where there is none, or a file is lost or cut."""
        listing = self._listing(name)
        if listing is None:
            return False
        with self._told("read"):
            for path, size in listing.sizes.items():
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._files.get_file(self._place(name, listing.token, path), str(place))
                except FileNotFoundError:
                    return False
                if place.stat().st_size != size:
                    return False
        return True

    def remove(self, name: str) -> None:
        """Remove a folder, and those below it; one that is gone is no error."""
        self._remove(self._place(name))

    def _remove(self, place: str) -> None:
        with self._told("written"), suppress(FileNotFoundError):
            self._files.rm(place, recursive=True)

    def _listing(self, name: str) -> Listing | None:
        """What a folder holds; None where there is none, or not yet all of it."""
        with self._told("read"), suppress(FileNotFoundError, NotADirectoryError, ValidationError):
            return Listing.model_validate_json(self._files.cat_file(self._place(name, LISTING)))
        return None

    def _place(self, name: str, *parts: str) -> str:
        assert NAME.fullmatch(name), name
        return "/".join([self._root, name, *parts])

    def _make_folder(self, place: str) -> None:
        """An object store has no folders, and would make a bucket."""
        if self._is_local:
            self._files.makedirs(place, exist_ok=True)

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        """Whatever goes wrong as an `InputError`; what is raised is up to the library behind the URL."""
        try:
            yield
        except BenchError:
            raise
        except ImportError as error:
            raise InputError(f"--storage {self}: {in_one_line(error)}, by pip install") from None
        except Exception as error:
            raise InputError(
                f"--storage {self}: cannot be {verb} ({in_one_line(error)}); name another place"
            ) from None


def refuse_secrets(url: str) -> None:
    """Raise `InputError`, which does not repeat it, for a URL in which a password or a key may stand."""
    if "://" in url and ("@" in url or "?" in url):
        raise InputError(
            "--storage: @ and ? in a URL may stand beside a secret, which the run document would keep; "
            "credentials come from the environment; see docs/scaling.md"
        )
