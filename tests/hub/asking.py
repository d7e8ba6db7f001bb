"""The product asked in a fresh process, whose only hub and whose only cache are a test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.hub.server import Hub

PROGRAM = """
import sys
from bench.errors import InputError
try:
    exec(sys.argv[1])
except InputError as error:
    sys.exit(str(error))
"""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass
class User:
    """Someone with a cache in `home`, whose settings name `hub`; `settings` are more of them."""

    home: Path
    hub: Hub
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        ours = {
            "HF_ENDPOINT": self.hub.endpoint,
            "BENCH_DATA_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_ETAG_TIMEOUT": "120",
            "HF_HUB_DOWNLOAD_TIMEOUT": "120",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "COLUMNS": "80",
        }
        gone = ("HF_TOKEN", "HF_HUB_OFFLINE", *PROXIES, *(name.lower() for name in PROXIES))
        inherited = {name: value for name, value in os.environ.items() if name not in gone}
        return {**inherited, **ours, **self.settings}

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments to its end."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
            timeout=600,
        )

    def gets(self, code: str) -> str:
        """What `code` prints."""
        done = self.run("-c", PROGRAM, code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def is_refused(self, code: str) -> str:
        """The one line that `code` is refused with."""
        done = self.run("-c", PROGRAM, code)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert (done.returncode, len(lines)) == (1, 1), done.stderr
        return lines[0]
