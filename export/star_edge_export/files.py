"""Writing one file so that a reader finds the whole of it, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from star_edge.errors import ExportError


@contextmanager
def whole_file(out_file: Path) -> Iterator[Path]:
    """Lend a temporary name beside `out_file`; it takes the real name when the block ends, and goes when it fails.

    Raises: ExportError: the disk is full, or the folder cannot be written.
    """
    partial = out_file.with_name(f".{out_file.name}.partial")
    try:
        out_file.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, out_file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"{out_file}: cannot be written ({reason}); free some space or choose another --out"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
