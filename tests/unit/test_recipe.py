from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from star_edge import recipe as recipes
from star_edge.cli import recipe_keys
from star_edge.contracts import GateConfig, Recipe, SimRlConfig, SourceConfig
from star_edge.errors import RecipeError
from star_edge.recipe_values import LIMITS, numbers

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
        (
            "distill:\n  objective: kd\n",
            "my/star.yaml:10: distill.objective: Invalid enum value 'kd'; there are ce, fkl, rkl, akl, ckd",
        ),
        ("cache:\n  top_k: 0\n", "cache.top_k is 0; it must be above 0"),
        ("sim_rl:\n  sim_rl:\n    rollouts: 1\n", "sim_rl.sim_rl.rollouts is 1; it must be at least 2"),
        (
            "adapt:\n  sim_rl:\n    group_reward_min: 0.9\n    group_reward_max: 0.1\n",
            "adapt.sim_rl.group_reward_min is 0.9 and group_reward_max 0.1; no group lies between, so lower the first",
        ),
        (
            "sim_rl:\n  sim_rl:\n    group_reward_min: 0.5\n    group_reward_max: 0.5\n",
            "sim_rl.sim_rl.group_reward_min is 0.5 and group_reward_max 0.5; no group lies between",
        ),
        (
            "adapt:\n  warmup: {}\n  skip_warmup: true\n",
            "my/star.yaml: adapt.skip_warmup is true, but adapt.warmup_rows is null and the warm-up takes every row; "
            "set adapt.warmup_rows",
        ),
        (
            "adapt:\n  kinds: [calls]\n",
            "my/star.yaml:10: adapt.kinds.0: Invalid enum value 'calls'; there are single, ",
        ),
        ("sim_rl:\n  sim_rl:\n    vllm_server: 8000\n", "sim_rl.sim_rl.vllm_server: Expected str | null, got int"),
        (
            "sim_rl:\n  sim_rl:\n    vllm_server: http://a:8000\n",
            "sim_rl.sim_rl.vllm_server is 'http://a:8000'; write host:port",
        ),
        ("evaluate:\n  suites: []\n", "evaluate.suites is empty; name at least one"),
        ("evaluate:\n  suites: [a/x.jsonl, x.jsonl.gz]\n", "evaluate.suites: one stands twice (x, x)"),
        ("evaluate:\n  checkpoints: [ckd, ckd]\n", "evaluate.checkpoints: one stands twice"),
        ("evaluate:\n  checkpoints: [sim-rl]\n", "Invalid enum value 'sim-rl'; there are base, adapt, ckd, merge"),
        ("evaluate:\n  limit: 0\n", "evaluate.limit is 0; it must be above 0"),
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
        ("name='..'", "name '..' becomes a folder; use letters, digits, '.', '_' and '-', and not dots alone"),
        ("name=.", "name '.' becomes a folder"),
        ("data.train=&a [*a]", "--set data.train=&a [*a]: an anchor holds itself"),
        ("data.train.0.synth=x", "exactly one of `path:` and `synth:`"),
        ("data.train=[]", "data.train is empty"),
        ("data.unlabelled=[{}]", "exactly one of `path:` and `synth:`"),
        ("data.unlabelled=[{synth: x}]", "data.unlabelled takes `path:` alone"),
        ("data.train.0.weight=2.0", "a `weight` counts under data.train beside data.mix"),
        ("data.heldout=[{path: x, weight: 1.0}]", "a `weight` counts under data.train beside data.mix"),
        ("data.mix={irrelevance_share: 0.5}", "missing required field rows"),
        ("data.mix={rows: 9, irrelevance_share: 0.5, ask_share: 0.3, parallel_share: 0.3}", "are 1.1 together"),
        ("data.mix={rows: 9, near_miss_share: 0.5}", "set irrelevance_share or unlabelled_irrelevance_share too"),
        ("data.mix={rows: 9, distractor_share: 0.5}", "needs data.mix.tool_pool"),
        ("data.mix={rows: 9, unlabelled_irrelevance_share: 0.5}", "needs data.mix.tool_pool"),
        (
            "data.mix={rows: 9, tool_pool: pool.jsonl, unlabelled_distractor_share: 0.5}",
            "unlabelled_distractor_share is a share of the prompts of data.unlabelled",
        ),
        ("data.mix={rows: 9, mask_share: 1.5}", "data.mix.mask_share is 1.5; it must be between 0 and 1"),
        ("data.mix={rows: 0}", "data.mix.rows is 0; it must be above 0"),
        ("cache.labels=5", "cache.prompts is null and asks for every row; set cache.prompts"),
        (
            "watch={every_steps: null}",
            "watch.every_steps and watch.every_rl_steps are null, so that nothing is watched",
        ),
    ],
)
def test_bad_overrides_are_refused(minimal: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipes.load(minimal, [override])
    assert message in str(caught.value)


def test_a_mistake_in_a_value_that_was_set_is_not_put_on_a_line_of_the_file(minimal: Path) -> None:
    with minimal.open("a") as file:
        file.write("adapt:\n  kinds:\n    - single\n")
    with pytest.raises(RecipeError, match=r"^--set adapt.kinds=\[solo\]: adapt.kinds.0: .*there are single"):
        recipes.load(minimal, ["adapt.kinds=[solo]"])
    with pytest.raises(RecipeError, match=r"^--set data.train=\[\{paht: x\}\]: unknown key 'paht'; did"):
        recipes.load(minimal, ["data.train=[{paht: x}]"])


@pytest.mark.parametrize("other", ["adapt.warmup_rows=5", "adapt.warmup=null", "adapt.sim_rl.steps=0"])
def test_rows_of_the_warmup_may_be_skipped_where_some_can_be_left_or_none_are_needed(minimal: Path, other: str) -> None:
    assert recipes.load(minimal, ["adapt.warmup={}", "adapt.skip_warmup=true", other]).recipe.adapt.skip_warmup


def test_a_key_that_is_gone_is_passed_over_where_it_says_what_is_so_anyway(minimal: Path) -> None:
    for said in (["cache.vllm_logprobs=true"], ["cache.vllm_logprobs=false"]):
        assert recipes.load(minimal, said) == recipes.load(minimal, ["cache={}"])
    for key, message in (
        ("cache={use_vllm: true, vllm_logprobs: false}", "has vLLM's log-probabilities; remove the key"),
        ("cache.vllm_logprobs.x=3", "unknown key 'vllm_logprobs'"),
        ("distill.vllm_logprobs=true", "unknown key 'vllm_logprobs'"),
    ):
        with pytest.raises(RecipeError, match=message):
            recipes.load(minimal, [key])


def test_near_misses_may_be_of_unlabelled_prompts_alone(minimal: Path) -> None:
    mix = "{rows: 9, tool_pool: pool.jsonl, near_miss_share: 0.5, unlabelled_irrelevance_share: 0.5}"
    loaded = recipes.load(minimal, [f"data.mix={mix}", "data.unlabelled=[{path: prompts.jsonl}]"])
    assert loaded.recipe.data.mix is not None


IMPOSSIBLE = [
    *((key, value, "above 0") for value in (0, -1) for key in (
        "student.keep_layers", "data.train.0.limit", "data.max_prompt_tokens", "data.max_completion_tokens",
        "adapt.warmup_rows", "adapt.warmup.rows_per_forward", "adapt.warmup.max_steps", "adapt.warmup.save_every",
        "adapt.sim_rl.prompts_per_step", "adapt.sim_rl.max_new_tokens", "adapt.tuning.rank", "adapt.tuning.last_layers",
        "cache.prompts", "cache.rollouts", "cache.top_k", "cache.rows_per_shard", "cache.rows_per_forward",
        "distill.optimizer.rows_per_step", "distill.chunk", "sim_rl.sim_rl.save_every",
        "export.parity_cases", "validate.cases", "validate.threads", "validate.max_new_tokens",
    )),
    *((f"{section}.sim_rl.rollouts", value, "at least 2") for section in ("adapt", "sim_rl") for value in (-1, 0, 1)),
    *((key, 0.0, "above 0") for key in ("distill.optimizer.lr", "distill.optimizer.epochs", "cache.temperature")),
    *((key, -1, "0 or above") for key in ("seed", "sim_rl.sim_rl.steps", "distill.tail_top_m", "adapt.sim_rl.beta")),
    *((key, value, "between 0 and 1") for value in (-0.1, 1.5) for key in (
        "data.heldout_tool_share", "data.max_bad_share", "distill.optimizer.warmup_share",
    )),
    *((f"sim_rl.sim_rl.group_reward_{end}", value, "between -1 and 1") for end, value in (("min", -2), ("max", 1.5))),
    *((key, ".inf", "a finite number") for key in ("distill.optimizer.epochs", "distill.tail_weight")),
    *((key, ".nan", "a finite number") for key in ("adapt.warmup.lr", "data.max_bad_share")),
    ("seed", 2**40, "at most"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "wanted"), IMPOSSIBLE)
def test_numbers_that_cannot_work_are_refused_by_their_key(minimal: Path, key: str, value: float, wanted: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipes.load(minimal, [f"{key}={value}"])
    shown = str(yaml.safe_load(str(value)))
    shown = {f"{key} is {number}; it must be {wanted}" for number in (shown, f"{shown}.0")}
    assert any(line in str(caught.value) for line in shown), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override", ["sim_rl.sim_rl.steps=0", "data.max_bad_share=0.0", "data.max_bad_share=1.0", "distill.tail_weight=0.0",
                 "distill.optimizer.max_steps=null", "adapt.sim_rl.beta=0.0", "adapt.sim_rl.max_resamples=0",
                 "cache.rollouts=1", "sim_rl.sim_rl.rollouts=2", "sim_rl.sim_rl.group_reward_min=0.98"],
)  # fmt: skip
def test_numbers_at_the_edge_are_taken(minimal: Path, override: str) -> None:
    recipes.load(minimal, [override])


def test_every_number_of_a_recipe_has_a_limit_but_the_gates(minimal: Path) -> None:
    mix = ["data.mix.rows=9", "data.train.0.weight=1.0", "data.train.0.cap=5", "data.mix.irrelevance_share=0.1"]
    mix += ["data.mix.ask_share=0.1", "data.mix.parallel_share=0.1"]
    mix += ["sim_rl.sim_rl.group_reward_min=0.0", "sim_rl.sim_rl.group_reward_max=1.0"]
    loaded = recipes.load(minimal, ["adapt.warmup.lr=1.0e-4", *mix])
    fields = {key.rpartition(".")[2] for key, _ in numbers(loaded.recipe) if ".gates." not in key}
    assert fields <= set(LIMITS)


@pytest.mark.parametrize("name", ["quickstart", "quickstart/star.yaml", "recipes/quickstart/star.yaml"])
def test_packaged_recipes_are_found_by_short_and_long_name(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipes.find(name).name == "star.yaml"


def test_a_missing_recipe_names_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"quickstrat: no such file; did you mean 'quickstart/star.yaml'\?"):
        recipes.find("quickstrat")


def test_the_recipe_in_the_documentation_loads(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "recipes.md"
    (tmp_path / "house.yaml").write_text(page.read_text().split("```yaml\n")[1].split("```")[0])
    loaded = recipes.load(tmp_path / "house.yaml")
    assert loaded.recipe.student.keep_layers == 16
    assert [source.path for source in loaded.recipe.data.train] == ["my-rows.jsonl.gz", "more-rows.jsonl"]


def test_a_docstring_has_one_entry_for_every_key() -> None:
    kinds = {kind for kind, _ in recipe_keys.sections()}
    assert {Recipe, SourceConfig, GateConfig, SimRlConfig} <= kinds
    for kind in kinds:
        names = [field.name for field in dataclasses.fields(kind)]
        meanings = recipe_keys.meanings(kind)
        assert list(meanings) == names, kind
        assert all(text.endswith(".") for text in meanings.values()), kind


def test_the_page_of_keys_tells_type_limit_default_and_meaning() -> None:
    page = recipe_keys.reference()
    assert "## `adapt.tuning`, `distill.tuning`, `sim_rl.tuning`\n" in page
    assert "## `data.train.N`, `data.heldout.N`, `data.unlabelled.N`\n" in page
    for row in (
        "| `source` | text | required | hub id, folder, ",
        "| `lr` | number, above 0 | `3.0e-06` | highest learning rate",
        "| `max_steps` | whole number or null, above 0 | `null` | ",
        "| `gguf` | list of `F16`, `Q8_0`, `Q6_K`, `Q5_K_M`, `Q4_K_M`, `Q4_0` | `[F16, Q8_0, Q4_K_M]` | ",
        "| `watch` | section or null | `null` | ",
        "| `train` | list of sections | `[]` | ",
        "| `compile` | `auto`, `'off'` | `'off'` | ",
        "| `use_vllm` | true or false | `false` | ",
        "| `rollouts` | whole number, at least 2 | `8` | completions of a prompt, which are compared",
        "| `rollouts` | whole number, above 0 | `8` | completions of a prompt. |",
        "| `group_reward_min` | number or null, between -1 and 1 | `null` | groups with a mean reward outside",
    ):
        assert f"\n{row}" in page


def test_every_key_of_a_resolved_recipe_is_on_the_page(minimal: Path) -> None:
    text = recipes.to_yaml(recipes.load(minimal, ["adapt.warmup={}", "watch={}", "evaluate={}"]).recipe)
    keys = set(re.findall(r"^[ -]*(\w+):", text, re.MULTILINE))
    assert keys <= set(re.findall(r"^\| `(\w+)` \|", recipe_keys.reference(), re.MULTILINE))


def test_an_override_changes_one_place_and_not_all_that_share_its_anchor():
    before = recipes.load(recipes.find("smoke/xlam.yaml"), ()).recipe
    after = recipes.load(
        recipes.find("smoke/xlam.yaml"), ("sim_rl.sim_rl.reward=binary", "adapt.tuning.last_layers=7")
    ).recipe
    assert (after.sim_rl.sim_rl.reward, after.adapt.tuning.last_layers) == ("binary", 7)
    assert after.adapt.sim_rl == before.adapt.sim_rl
    assert (after.distill, after.sim_rl.tuning) == (before.distill, before.sim_rl.tuning)


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "[" * 5000], ids=["list", "mapping", "deep"])
def test_a_recipe_without_an_end_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "endless.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"endless\.yaml: an anchor holds itself, or values nest too deeply"):
        recipes.load(path)
