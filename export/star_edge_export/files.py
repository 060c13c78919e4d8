"""Writing one file so that a reader finds the whole of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from star_edge.errors import ExportError
from star_edge.manifest import replacing


@contextmanager
def whole_file(out_file: Path) -> Iterator[Path]:
    """Lend a temporary name beside `out_file`; it takes the real name when the block ends, and goes when it fails.

    Raises: ExportError: the disk is full, or the folder cannot be written.
    """
    try:
        with replacing(out_file) as partial:
            yield partial
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"{out_file}: cannot be written ({reason}); free some space or choose another --out"
        ) from error
