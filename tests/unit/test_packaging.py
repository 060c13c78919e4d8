from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def packages_in_tree() -> set[str]:
    found = {"star_edge.recipes"}
    for root, name in (
        (ROOT, "star_edge"),
        (ROOT / "export", "star_edge_export"),
        (ROOT / "device_tests", "star_edge_device"),
    ):
        for init in (root / name).rglob("__init__.py"):
            found.add(".".join(init.parent.relative_to(root).parts))
    return found


def test_the_packages_list_is_the_tree() -> None:
    assert set(SETUPTOOLS["packages"]) == packages_in_tree()
    assert SETUPTOOLS["packages"] == sorted(SETUPTOOLS["packages"])


@pytest.mark.slow
def test_a_built_wheel_carries_code_recipes_and_template(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if "BackendUnavailable" in done.stderr or "No module named 'setuptools'" in done.stderr:
        pytest.skip("needs setuptools in this environment")
    assert done.returncode == 0, done.stderr
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    for wanted in (
        "star_edge/pipeline.py",
        "star_edge/recipes/quickstart/star.yaml",
        "star_edge/recipes/quickstart/requests.yaml",
        "star_edge/calls/hermes.jinja",
        "star_edge_export/__init__.py",
        "star_edge_device/runtimes/__init__.py",
    ):
        assert wanted in names, wanted


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
