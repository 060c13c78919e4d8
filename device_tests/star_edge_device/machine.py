"""What the process and the machine under it are: peak memory, processor, versions."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import psutil  # type: ignore[import-untyped]

MIB = 1024 * 1024
PACKAGES = ("llama-cpp-python", "onnxruntime", "tokenizers", "numpy")


def peak_rss_mib() -> float:
    """Largest resident set of this process so far, mapped weights included.

    On Linux this is VmHWM, which starts afresh with the program; `ru_maxrss` does not: a child inherits the
    peak of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset / MIB)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / MIB if sys.platform == "darwin" else peak / 1024)


def cpu_name() -> str:
    """The processor as it calls itself, or its architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def facts() -> dict[str, str]:
    """Processor, cores, memory, system and the versions that a speed depends on."""
    found = {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count() or 0),
        "memory_gib": f"{psutil.virtual_memory().total / MIB / 1024:.0f}",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
