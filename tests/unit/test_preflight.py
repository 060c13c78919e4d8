"""What a launch cannot do of a recipe is told before its first stage runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from star_edge import engine, pipeline, preflight
from star_edge.contracts import (
    AdaptConfig,
    DataConfig,
    DistillConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    SimRlConfig,
    SourceConfig,
    StudentRlConfig,
    TeacherCacheConfig,
    WatchConfig,
)
from star_edge.engine import Details, Run, Stage
from star_edge.errors import RuntimeMissing, StarEdgeError, TrainingError
from star_edge.preflight import check_stages
from star_edge.recipe import LoadedRecipe

MODEL = ModelConfig("./model")
ROWS = OptimizerConfig(rows_per_step=8)
PROMPTS = SimRlConfig(prompts_per_step=8)
RECIPE = Recipe(
    "tiny",
    MODEL,
    MODEL,
    DataConfig(train=(SourceConfig(path="rows.jsonl"),)),
    adapt=AdaptConfig(warmup=ROWS, sim_rl=PROMPTS),
    distill=DistillConfig(optimizer=ROWS),
    sim_rl=StudentRlConfig(sim_rl=PROMPTS),
)
UNEVEN = {"warmup": OptimizerConfig(rows_per_step=9), "sim-rl": SimRlConfig(prompts_per_step=9)}
WITHOUT_TEACHER = replace(RECIPE, adapt=AdaptConfig(warmup=None, sim_rl=SimRlConfig(steps=0, use_vllm=True)))


@pytest.fixture(autouse=True)
def one_process_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)


def refusal(recipe: Recipe, *stages: str) -> str:
    with pytest.raises(StarEdgeError) as refused:
        check_stages(recipe, stages)
    return str(refused.value)


@pytest.mark.parametrize(
    ("stage", "recipe", "key"),
    [
        ("warmup", replace(RECIPE, adapt=AdaptConfig(warmup=UNEVEN["warmup"])), "adapt.warmup.rows_per_step"),
        ("adapt", replace(RECIPE, adapt=AdaptConfig(sim_rl=UNEVEN["sim-rl"])), "adapt.sim_rl.prompts_per_step"),
        ("ckd", replace(RECIPE, distill=DistillConfig(optimizer=UNEVEN["warmup"])), "distill.optimizer.rows_per_step"),
        ("sim-rl", replace(RECIPE, sim_rl=StudentRlConfig(sim_rl=UNEVEN["sim-rl"])), "sim_rl.sim_rl.prompts_per_step"),
    ],
)
def test_a_step_that_processes_cannot_share_is_named_by_its_key(
    monkeypatch: pytest.MonkeyPatch, stage: str, recipe: Recipe, key: str
) -> None:
    check_stages(recipe, [stage])
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert refusal(recipe, stage) == f"{key} is 9, which 4 processes cannot share evenly; change one"
    check_stages(recipe, {"base", "data", "warmup", "adapt", "cache", "ckd", "sim-rl", "merge"} - {stage})
    check_stages(RECIPE, [stage])


@pytest.mark.parametrize("stage", ["adapt", "sim-rl"])
def test_sim_rl_of_sharded_weights_is_refused(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "Sim-RL does not train sharded weights" in refusal(RECIPE, stage)
    check_stages(RECIPE, ["warmup", "cache", "ckd"])
    check_stages(WITHOUT_TEACHER, ["warmup", "adapt"])


@pytest.mark.parametrize("stage", ["warmup", "ckd"])
def test_a_watch_of_sharded_weights_is_refused(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    watched = replace(RECIPE, watch=WatchConfig())
    check_stages(watched, [stage])
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "leave watch out (--set watch=null)" in refusal(watched, stage)
    check_stages(replace(RECIPE, watch=WatchConfig(every_steps=None, every_rl_steps=5)), [stage])


@pytest.mark.parametrize(
    ("stage", "recipe", "key"),
    [
        ("adapt", replace(RECIPE, adapt=AdaptConfig(sim_rl=SimRlConfig(use_vllm=True))), "adapt.sim_rl.use_vllm"),
        ("cache", replace(RECIPE, cache=TeacherCacheConfig(use_vllm=True)), "cache.use_vllm"),
        (
            "sim-rl",
            replace(RECIPE, sim_rl=StudentRlConfig(sim_rl=SimRlConfig(vllm_server="host:1"))),
            "sim_rl.sim_rl.vllm_server",
        ),
    ],
)
def test_vllm_that_a_later_stage_asks_for_is_missed_at_once(
    monkeypatch: pytest.MonkeyPatch, stage: str, recipe: Recipe, key: str
) -> None:
    with pytest.raises(RuntimeMissing, match=f"^{key}: vllm is not installed: needs the 'vllm' extra"):
        check_stages(recipe, [stage])
    check_stages(WITHOUT_TEACHER, ["adapt"])
    monkeypatch.setattr(preflight, "find_spec", lambda name: name)
    check_stages(recipe, [stage])


def test_only_stages_that_will_be_run_are_asked_and_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stage(name: str, *needs: str) -> Stage:
        def work(_run: Run, _out: Path) -> Details:
            return {}

        return Stage(name, name, lambda _: None, needs, work)

    monkeypatch.setattr(pipeline, "STAGES", (stage("base"), stage("ckd", "base"), stage("sim-rl", "ckd")))
    uneven = replace(RECIPE, sim_rl=StudentRlConfig(sim_rl=UNEVEN["sim-rl"]))
    run = Run(LoadedRecipe(uneven, Path("tiny.yaml")), tmp_path / "run", "cpu")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(TrainingError, match=r"sim_rl\.sim_rl\.prompts_per_step is 9"):
        pipeline.execute(run)
    assert not run.folder.exists()
    pipeline.execute(run, until="ckd")
    with pytest.raises(TrainingError):
        pipeline.execute(run)
    monkeypatch.setenv("WORLD_SIZE", "3")
    pipeline.execute(run)
    monkeypatch.setenv("WORLD_SIZE", "4")
    pipeline.execute(run)
    other = replace(run, folder=tmp_path / "other")
    pipeline.execute(other, take_from=run.folder)
    assert (other.folder / engine.RESOLVED).exists()


def test_the_trainers_name_the_same_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trainer = pytest.importorskip("star_edge.rl.trainer", reason="needs the 'train' extra")
    from star_edge.distill.trainer import SECTIONS, training_arguments

    monkeypatch.setenv("WORLD_SIZE", "4")
    uneven = replace(RECIPE, adapt=AdaptConfig(warmup=UNEVEN["warmup"], sim_rl=UNEVEN["sim-rl"]))
    given = {"rows": 9, "device": "cpu", "seed": 1}
    with pytest.raises(TrainingError) as refused:
        training_arguments(UNEVEN["warmup"], tmp_path, **given, section=SECTIONS["warmup"])
    assert str(refused.value) == refusal(uneven, "warmup")
    with pytest.raises(TrainingError) as refused:
        trainer.grpo_arguments(UNEVEN["sim-rl"], tmp_path, **given, section="adapt.sim_rl")
    assert str(refused.value) == refusal(uneven, "adapt")
