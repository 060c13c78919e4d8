"""Versions of the packages that a number may depend on."""

from __future__ import annotations

import importlib.metadata

PACKAGES = (
    "star-edge",
    "torch",
    "transformers",
    "peft",
    "trl",
    "vllm",
    "llama-cpp-python",
    "onnxruntime",
    "optimum-onnx",
)


def versions() -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
