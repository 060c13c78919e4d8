"""The arrows between packages, read off the imports (docs/architecture.md draws them)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "star_edge": ROOT / "star_edge",
    "star_edge_export": ROOT / "export" / "star_edge_export",
    "star_edge_device": ROOT / "device_tests" / "star_edge_device",
}
COMMON = {"star_edge", "star_edge.contracts", "star_edge.errors", "star_edge.manifest", "star_edge.progress"}
SCORES = {"star_edge.evaluate.scores", "star_edge.evaluate.intervals"}
STAGES = {"star_edge.data", "star_edge.teacher", "star_edge.distill", "star_edge.rl", "star_edge.models"}

# What each part may import of ours, besides itself and COMMON.
ALLOWED: dict[str, set[str]] = {
    "star_edge.contracts": set(),
    "star_edge.alone": set(),
    "star_edge.cache_folder": set(),
    "star_edge.environment": set(),
    "star_edge.errors": set(),
    "star_edge.manifest": set(),
    "star_edge.progress": set(),
    "star_edge.recipe": {"star_edge.recipes", "star_edge.recipe_values"},
    "star_edge.recipe_values": set(),
    "star_edge.calls": set(),
    "star_edge.evaluate": {"star_edge.calls", "star_edge.cache_folder"},
    "star_edge.evaluate.rows": {"star_edge.calls", "star_edge.evaluate", "star_edge.data.normalise"},
    **{stage: {"star_edge.calls", "star_edge.launch", *SCORES, *STAGES} for stage in STAGES},
    "star_edge.rl.audit": {"star_edge.calls", "star_edge.evaluate", "star_edge.rl.reward"},
    "star_edge.data.known": {"star_edge.data", "star_edge.evaluate.bfcl"},
    "star_edge.report": set(),
    "star_edge_export": {"star_edge.calls", "star_edge.models", "star_edge.data"},
    "star_edge_device": {"star_edge.calls", *SCORES},
    "star_edge.answering": {
        "star_edge.alone",
        "star_edge.environment",
        "star_edge.calls",
        "star_edge.data",
        "star_edge.evaluate",
        "star_edge.models",
        "star_edge_export",
        "star_edge_device",
    },
    "star_edge.parity": {"star_edge", "star_edge_export", "star_edge_device"},
    "star_edge.own_process": set(),
    "star_edge.ahead": {"star_edge.models"},
    "star_edge.keys": {"star_edge"},
    "star_edge.launch": set(),
    "star_edge.engine": {"star_edge.alone", "star_edge.launch", "star_edge.own_process", "star_edge.recipe"},
    "star_edge.preflight": {"star_edge.keys", "star_edge.launch"},
    "star_edge.positions": {"star_edge.recipe", "star_edge.models"},
    "star_edge.pipeline": {"star_edge", "star_edge_export", "star_edge_device"},
    "star_edge.summary": {"star_edge", "star_edge_export", "star_edge_device"},
    "star_edge.publish": {"star_edge"},
    "star_edge.results": {"star_edge"},
    "star_edge.__main__": {"star_edge.cli"},
    "star_edge.cli": {"star_edge", "star_edge_export", "star_edge_device"},
}
TORCH_FREE = {
    "star_edge.contracts", "star_edge.errors", "star_edge.manifest", "star_edge.progress", "star_edge.recipe",
    "star_edge.recipe_values", "star_edge.alone", "star_edge.cache_folder", "star_edge.environment",
    "star_edge.launch", "star_edge.preflight",
    "star_edge.calls", "star_edge.evaluate", "star_edge.rl.reward", "star_edge.rl.rewards", "star_edge.rl.audit",
    "star_edge.report", "star_edge_device",
}  # fmt: skip
HEAVY = {"torch", "transformers", "peft", "trl", "accelerate", "datasets", "optimum"}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether it is imported when the file is loaded) of every import statement outside TYPE_CHECKING."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                yield from ((f"{child.module}.{alias.name}", at_load) for alias in child.names)
            yield from walk(
                child, at_load and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            )

    yield from walk(ast.parse(path.read_text()), True)


def within(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in names)


def part_of(module: str) -> str | None:
    return max((part for part in ALLOWED if within(module, {part})), key=len, default=None)


MODULES = dict(modules())


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    part = part_of(module)
    if part is None:
        assert module in ("star_edge", "star_edge.recipes"), f"{module}: say in ALLOWED where it belongs"
        return
    allowed = ALLOWED[part] | {part}
    for imported, _ in imports(MODULES[module]):
        if imported.split(".")[0] in PACKAGES and not within(imported, allowed):
            assert within(imported, COMMON - {"star_edge"}) or imported == "star_edge.__version__", (
                f"{module} imports {imported}"
            )


@pytest.mark.parametrize("module", [module for module in MODULES if within(module, TORCH_FREE)])
def test_torch_free_parts_never_import_torch(module: str) -> None:
    heavy = [imported for imported, _ in imports(MODULES[module]) if imported.split(".")[0] in HEAVY]
    assert not heavy, f"{module} imports {heavy}"


LIGHT = {"star_edge.cli", "star_edge.pipeline", "star_edge.engine", "star_edge.keys", "star_edge.ahead"}


@pytest.mark.parametrize("module", [module for module in MODULES if within(module, LIGHT)])
def test_the_command_line_loads_nothing_heavy(module: str) -> None:
    heavy = HEAVY | {"onnx", "onnxruntime", "llama_cpp", "gguf", "numpy", "scipy"}
    at_load = [name for name, at_load in imports(MODULES[module]) if at_load and name.split(".")[0] in heavy]
    assert not at_load, f"{module} imports {at_load} when it is loaded"
