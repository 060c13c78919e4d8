"""Where downloads are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

VARIABLE = "STAR_EDGE_CACHE"


def cache_folder() -> Path:
    """The folder named by STAR_EDGE_CACHE, else the user's cache folder for star-edge; it may not exist yet."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_cache_path("star-edge")
