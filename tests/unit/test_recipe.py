from __future__ import annotations

from pathlib import Path

import pytest

from star_edge import recipe as recipes
from star_edge.errors import RecipeError

MINIMAL = """\
name: tiny
teacher:
  source: ./teacher
student:
  source: ./student
data:
  train:
    - path: rows.jsonl
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "my" / "star.yaml"
    path.parent.mkdir()
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", recipes.list_recipes(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_recipe_loads_and_states_its_purpose_hardware_minutes_and_command(path: Path) -> None:
    recipes.load(path)
    head = path.read_text().splitlines()[:8]
    assert head[0].startswith("# ")
    for word in ("Hardware:", "Minutes:", "Command:"):
        assert any(word in line for line in head), word


def test_resolved_recipe_reads_back_as_the_same_recipe(tmp_path: Path) -> None:
    for path in recipes.list_recipes():
        loaded = recipes.load(path, ["distill.optimizer.lr=2.0e-6"])
        again = tmp_path / "again.yaml"
        again.write_text(recipes.to_yaml(loaded.recipe))
        assert recipes.load(again).recipe == loaded.recipe
        assert recipes.recipe_hash(loaded.recipe) == recipes.recipe_hash(recipes.load(again).recipe)


def test_overrides_reach_nested_values_list_items_and_sections_that_are_absent(minimal: Path) -> None:
    loaded = recipes.load(
        minimal, ["distill.optimizer.lr=2.0e-6", "data.train.0.limit=5", "adapt.warmup.lr=1.0e-4", "export.onnx=[]"]
    )
    assert loaded.recipe.distill.optimizer.lr == 2e-6
    assert loaded.recipe.data.train[0].limit == 5
    assert loaded.recipe.adapt.warmup is not None
    assert loaded.recipe.adapt.warmup.lr == 1e-4
    assert loaded.recipe.export.onnx == ()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("cache:\n  temprature: 1.0\n", "my/star.yaml:10: unknown key 'temprature'; did you mean 'temperature'?"),
        (
            "distill:\n  optimizer:\n    lr: 1e-5\n",
            "my/star.yaml:11: distill.optimizer.lr: YAML reads '1e-5' as text; write 1.0e-5",
        ),
        ("seed: soon\n", "my/star.yaml:9: seed: Expected int, got str"),
        ("seed: true\n", "my/star.yaml:9: seed: Expected int, got bool"),
        ("distill:\n  objective: kd\n", "my/star.yaml:10: distill.objective: Invalid enum value 'kd'"),
        ("cache:\n  top_k: 0\n", "cache.top_k is 0; it must be above 0"),
        ("sim_rl:\n  sim_rl:\n    rollouts: 1\n", "sim_rl.sim_rl.rollouts is 1; a group needs at least 2"),
        ("name: tiny\n", "my/star.yaml:9: key 'name' stands twice; remove one"),
        ("seed: [1\n", "my/star.yaml:10:"),
    ],
)
def test_mistakes_are_one_line_with_place_and_remedy(minimal: Path, extra: str, message: str) -> None:
    minimal.write_text(MINIMAL + extra)
    with pytest.raises(RecipeError) as caught:
        recipes.load(minimal)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("distill.optimizer.lrr=1.0", "unknown key 'lrr'; did you mean 'lr'?"),
        ("distil.objective=ce", "unknown key 'distil'; did you mean 'distill'?"),
        (
            "distill.optimizer.lr=1e-5",
            "--set distill.optimizer.lr=1e-5: distill.optimizer.lr: YAML reads '1e-5' as text",
        ),
        ("data.train.3.path=x", "the list has 1 items, numbered from 0; 3 is none"),
        ("name.first=x", "'name' is a value and has no keys"),
        ("justakey", "expected key=value"),
        ("name=a/b", "name 'a/b' becomes a folder"),
        ("data.train.0.synth=x", "exactly one of `path:` and `synth:`"),
        ("data.train=[]", "data.train is empty"),
    ],
)
def test_bad_overrides_are_refused(minimal: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipes.load(minimal, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["quickstart", "quickstart/star.yaml", "recipes/quickstart/star.yaml"])
def test_packaged_recipes_are_found_by_short_and_long_name(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipes.find(name).name == "star.yaml"


def test_a_missing_recipe_names_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"quickstrat: no such file; did you mean 'quickstart/star.yaml'\?"):
        recipes.find("quickstrat")
