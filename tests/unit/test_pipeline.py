"""The engine on stages that cost nothing."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from star_edge import engine, keys, manifest, pipeline
from star_edge.contracts import (
    AdaptConfig,
    DataConfig,
    Example,
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
from star_edge.errors import ArtifactError, TrainingError
from star_edge.progress import Progress
from star_edge.recipe import LoadedRecipe, load, to_yaml, value_text


def loaded(seed: int = 1) -> LoadedRecipe:
    model = ModelConfig("./model")
    recipe = Recipe("tiny", model, model, DataConfig(train=(SourceConfig(path="rows.jsonl"),)), seed=seed)
    return LoadedRecipe(recipe, Path("tiny.yaml"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three stages in a row, of which the second reads the seed; the list collects which of them ran."""
    log: list[str] = []

    def stage(name: str, needs: tuple[str, ...], *, reads_seed: bool = False) -> Stage:
        def work(_run: Run, out: Path) -> Details:
            log.append(name)
            (out / "result").write_text(name)
            return {"name": name}

        return Stage(name, f"do {name}", lambda item: item.recipe.seed if reads_seed else None, needs, work)

    stages = (stage("first", ()), stage("second", ("first",), reads_seed=True), stage("third", ("second",)))
    monkeypatch.setattr(pipeline, "STAGES", stages)
    monkeypatch.setattr(pipeline, "STAGE_NAMES", ("first", "second", "third"))
    return log


def test_stages_run_once_in_order_and_never_again(ran: list[str], tmp_path: Path) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run)
    pipeline.execute(run)
    assert ran == ["first", "second", "third"]
    assert run.details("second") == {"name": "second"}
    assert list(pipeline.stage_seconds(run.folder)) == ran


@pytest.mark.parametrize("text", ['{"key', "{}"], ids=["cut short", "without seconds"])
def test_seconds_in_a_damaged_manifest_are_one_line(text: str, ran: list[str], tmp_path: Path) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run)
    (run.folder / "second" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"second/manifest\.json: .*remove the folder and run the command again"):
        pipeline.stage_seconds(run.folder)


def test_measurements_are_done_again_without_asking(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.STAGES
    measured = (whole[0], *(replace(stage, is_measurement=True) for stage in whole[1:]))
    monkeypatch.setattr(pipeline, "STAGES", measured)
    pipeline.execute(Run(loaded(1), tmp_path / "run", "cpu"))
    pipeline.execute(Run(loaded(2), tmp_path / "run", "cpu"))
    assert ran == ["first", "second", "third", "second", "third"]
    assert "seed: 2" in (tmp_path / "run" / engine.RESOLVED).read_text()


def test_a_second_process_changes_nothing_even_when_forced(ran: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    pipeline.execute(Run(loaded(1), folder, "cpu"), until="first")
    before = (folder / engine.RESOLVED).read_text()
    with FileLock(folder / manifest.LOCK), pytest.raises(ArtifactError, match="another star-edge is working there"):
        pipeline.execute(Run(loaded(2), folder, "cpu"), force=True)
    assert (folder / engine.RESOLVED).read_text() == before


def test_a_kill_before_the_first_file_is_whole_does_not_lock_the_folder(ran: list[str], tmp_path: Path) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")
    run.folder.mkdir()
    (run.folder / manifest.LOCK).write_text("")
    (run.folder / f".{engine.RESOLVED}.partial").write_text("na")
    pipeline.execute(run)
    assert ran == ["first", "second", "third"]


def test_further_processes_train_along_and_leave_the_rest_to_the_first(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.STAGES
    monkeypatch.setattr(pipeline, "STAGES", (whole[0], replace(whole[1], is_training=True), whole[2]))
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run, until="first")
    key = pipeline.plan(run.loaded, run.folder)[1].key
    manifest.begin(run.folder / "second", key)

    def first_process() -> None:
        """Ends the second and third stage a moment later, as the first process would."""
        time.sleep(0.5)
        pipeline.execute(run)

    thread = threading.Thread(target=first_process)
    thread.start()
    monkeypatch.setattr(engine, "rank", lambda: 1 if threading.current_thread() is not thread else 0)
    pipeline.execute(run)
    thread.join()
    assert ran == ["first", "second", "second", "third"]


def test_a_changed_recipe_is_refused_unless_forced_and_then_redoes_only_what_depends_on_it(
    ran: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    pipeline.execute(Run(loaded(1), folder, "cpu"))
    with pytest.raises(ArtifactError, match="another recipe"):
        pipeline.execute(Run(loaded(2), folder, "cpu"))
    assert ran == ["first", "second", "third"]
    pipeline.execute(Run(loaded(2), folder, "cpu"), force=True)
    assert ran == ["first", "second", "third", "second", "third"]


def test_what_another_recipe_made_is_gone_as_soon_as_the_folder_is_the_new_ones(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind `until` too: a report would show it as this recipe's. What goes on afterwards asks for no force."""
    whole = pipeline.STAGES
    monkeypatch.setattr(pipeline, "STAGES", (*whole[:2], replace(whole[2], is_measurement=True)))
    folder = tmp_path / "run"
    pipeline.execute(Run(loaded(1), folder, "cpu"))
    for name in engine.REPORTS:
        (folder / name).touch()
    pipeline.execute(Run(loaded(1), folder, "cpu"), until="second")
    with pytest.raises(ArtifactError, match="other --set values, whose second would be done again"):
        pipeline.execute(Run(loaded(2), folder, "cpu"), until="first")
    assert all((folder / name).exists() for name in (*engine.REPORTS, "second", "third"))
    pipeline.execute(Run(loaded(2), folder, "cpu"), until="first", force=True)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "first", engine.RESOLVED]
    pipeline.execute(Run(loaded(2), folder, "cpu"))
    assert ran == ["first", "second", "third", "second", "third"]


def test_a_report_goes_with_the_recipe_that_it_judges_by(ran: list[str], tmp_path: Path) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run)
    (run.folder / "report.json").touch()
    pipeline.execute(replace(run, loaded=replace(loaded(), recipe=replace(loaded().recipe, name="new"))))
    assert not (run.folder / "report.json").exists()
    assert ran == ["first", "second", "third"]


def remove(stage: Path) -> None:
    shutil.rmtree(stage)


def cut_short(stage: Path) -> None:
    (stage / "result").write_text("f")


@pytest.mark.parametrize("damage", [remove, cut_short])
def test_what_was_made_from_a_stage_that_is_done_again_is_done_again(
    ran: list[str], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Its key says nothing of it: training under the same settings leaves other weights each time."""
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run)
    damage(run.folder / "first")
    assert [item.state for item in pipeline.plan(run.loaded, run.folder)] == ["run", "run", "run"]
    lost = "second, third" if damage is remove else "first, second, third"
    refusal = f"{run.folder / 'first'}: missing or damaged, so that {lost} would be done again; choose another --out"
    with pytest.raises(ArtifactError, match=re.escape(refusal)):
        pipeline.execute(run)
    assert (run.folder / "third" / manifest.MANIFEST).exists()
    pipeline.execute(run, force=True, until="first")
    assert not (run.folder / "second").exists()
    pipeline.execute(run)
    assert ran == ["first", "second", "third"] * 2


def test_measurements_of_a_stage_that_is_done_again_are_done_again_without_asking(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.STAGES
    monkeypatch.setattr(pipeline, "STAGES", (whole[0], *(replace(stage, is_measurement=True) for stage in whole[1:])))
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run)
    shutil.rmtree(run.folder / "first")
    pipeline.execute(run)
    assert ran == ["first", "second", "third"] * 2


def test_a_stage_that_was_killed_while_it_was_done_again_goes_on_without_force(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_run: Run, out: Path) -> Details:
        (out / "half").write_text("x")
        raise KeyboardInterrupt

    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run)
    shutil.rmtree(run.folder / "first")
    whole = pipeline.STAGES
    monkeypatch.setattr(pipeline, "STAGES", (replace(whole[0], run=killed), *whole[1:]))
    with pytest.raises(KeyboardInterrupt):
        pipeline.execute(run, force=True)
    monkeypatch.setattr(pipeline, "STAGES", whole)
    assert [item.state for item in pipeline.plan(run.loaded, run.folder)] == ["continue", "run", "run"]
    pipeline.execute(run)
    assert ran == ["first", "second", "third"] * 2
    assert (run.folder / "first" / "half").exists()


def test_what_was_begun_from_a_stage_that_is_gone_is_not_continued(ran: list[str], tmp_path: Path) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run, until="first")
    manifest.begin(run.folder / "second", pipeline.plan(run.loaded, run.folder)[1].key)
    (run.folder / "second" / "half").write_text("x")
    shutil.rmtree(run.folder / "first")
    pipeline.execute(run)
    assert ran == ["first", "first", "second", "third"]
    assert not (run.folder / "second" / "half").exists()


def test_further_processes_wait_for_what_was_made_from_a_stage_that_is_done_again(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run)
    shutil.rmtree(run.folder / "first")
    whole, together = pipeline.STAGES, threading.Barrier(2)

    def train(a_run: Run, out: Path) -> Details:
        together.wait(timeout=20)
        return whole[1].run(a_run, out)

    monkeypatch.setattr(pipeline, "STAGES", (whole[0], replace(whole[1], is_training=True, run=train), whole[2]))
    further = threading.Thread(target=lambda: pipeline.execute(run))
    monkeypatch.setattr(engine, "rank", lambda: 1 if threading.current_thread() is further else 0)
    further.start()
    time.sleep(2 * engine.SECONDS_BETWEEN_LOOKS)
    pipeline.execute(run, force=True)
    further.join(timeout=20)
    assert not further.is_alive()
    assert ran == ["first", "second", "third", "first", "second", "second", "third"]


def test_until_stops_behind_the_stage_and_the_rest_goes_on_later(ran: list[str], tmp_path: Path) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run, until="second")
    assert ran == ["first", "second"]
    assert [item.state for item in pipeline.plan(run.loaded, run.folder)] == ["done", "done", "run"]
    pipeline.execute(run)
    assert ran == ["first", "second", "third"]


def test_a_stage_that_fails_leaves_the_ones_before_it_and_is_continued(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")

    def fails(_run: Run, out: Path) -> Details:
        (out / "half").write_text("x")
        raise TrainingError("no rows")

    broken = Stage("second", "fail", lambda item: item.recipe.seed, ("first",), fails)
    whole = pipeline.STAGES
    monkeypatch.setattr(pipeline, "STAGES", (whole[0], broken, whole[2]))
    with pytest.raises(TrainingError):
        pipeline.execute(run)
    assert not (run.folder / "second" / manifest.MANIFEST).exists()
    monkeypatch.setattr(pipeline, "STAGES", whole)
    assert [item.state for item in pipeline.plan(run.loaded, run.folder)] == ["done", "continue", "run"]
    pipeline.execute(run)
    assert ran == ["first", "second", "third"]
    assert (run.folder / "second" / "half").exists()


def test_foreign_folders_are_refused_and_left_alone(ran: list[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ArtifactError, match="not a run of star-edge"):
        pipeline.execute(Run(loaded(), tmp_path, "cpu"), force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert ran == []


def test_two_processes_do_not_work_in_one_folder(ran: list[str], tmp_path: Path) -> None:
    run = Run(loaded(), tmp_path / "run", "cpu")
    pipeline.execute(run, until="first")
    with FileLock(run.folder / ".lock"), pytest.raises(ArtifactError, match="another star-edge is working there"):
        pipeline.execute(run)
    assert ran == ["first"]


def test_planning_writes_nothing(ran: list[str], tmp_path: Path) -> None:
    pipeline.plan(loaded(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert ran == []


def test_checkpoints_survive_moving_the_run(ran: list[str], tmp_path: Path) -> None:
    from star_edge.contracts import Checkpoint

    run = Run(loaded(), tmp_path / "run", "cpu")
    saved = run.save_checkpoint(Checkpoint(run.folder / "ckd", "ckd", run.folder / "base" / "student"))
    assert saved == {"folder": "ckd", "stage": "ckd", "base": "base/student"}


def test_another_run_with_the_same_settings_lends_what_it_has_finished(ran: list[str], tmp_path: Path) -> None:
    pipeline.execute(Run(loaded(1), tmp_path / "one", "cpu"), until="second")
    other = Run(loaded(2), tmp_path / "two", "cpu")
    (tmp_path / "one" / "first" / "scratch").mkdir()
    assert states(other, tmp_path / "one") == ["take", "run", "run"]
    pipeline.execute(other, take_from=tmp_path / "one")
    assert ran == ["first", "second", "second", "third"]  # the seed decides the second
    assert other.details("first") == {"name": "first"}
    assert sorted(path.name for path in (other.folder / "first").iterdir()) == ["manifest.json", "result"]
    assert (other.folder / "first" / "result").samefile(tmp_path / "one" / "first" / "result")
    shutil.rmtree(tmp_path / "one")
    pipeline.execute(other)
    assert len(ran) == 4


def states(run: Run, other: Path, until: str | None = None) -> list[str]:
    return [item.state for item in pipeline.plan(run.loaded, run.folder, until=until, take_from=other)]


def begin_second(one: Path, two: Path) -> None:
    key = manifest.read_json(one / "second" / manifest.MANIFEST)["key"]
    shutil.copytree(one / "first", two / "first")
    manifest.begin(two / "second", key)


def finish_first_otherwise(one: Path, two: Path) -> None:
    key = manifest.read_json(one / "first" / manifest.MANIFEST)["key"]
    (two / "first").mkdir()
    (two / "first" / "result").write_text("FIRST")
    manifest.finish(two / "first", "first", key, details={}, seconds=1)


@pytest.mark.parametrize(
    ("change", "seed", "reason"),
    [
        (lambda one, _: shutil.rmtree(one / "second"), 1, "second is not finished there"),
        (lambda *_: None, 2, "second has other settings there: seed"),
        (lambda one, _: (one / "second" / "result").unlink(), 1, "files of second are missing or cut short there"),
        (begin_second, 1, "second is already begun here"),
        (finish_first_otherwise, 1, "first has the same settings here, but other files"),
    ],
    ids=["unfinished", "other settings", "damaged", "begun here", "other inputs"],
)
def test_one_line_says_why_the_first_stage_is_not_taken(
    ran: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path, Path], None],
    seed: int,
    reason: str,
) -> None:
    one, two = Run(loaded(), tmp_path / "one", "cpu"), Run(loaded(seed), tmp_path / "two", "cpu", Progress())
    pipeline.execute(one)
    two.folder.mkdir()
    (two.folder / engine.RESOLVED).touch()
    change(one.folder, two.folder)
    line = f"second is run here and not taken from {one.folder}: {reason}"
    assert engine.first_not_taken(pipeline.plan(two.loaded, two.folder, take_from=one.folder), one.folder) == line
    pipeline.execute(two, take_from=one.folder)
    assert [told for told in capsys.readouterr().err.splitlines() if "not taken" in told] == [line]


THEIRS = {
    "teacher.source": "owner/model",  # which nothing may fetch
    "adapt.sim_rl.lr": 1e-5,
    "cache.rollouts": 5,
    "distill.optimizer.lr": 1e-5,
    "distill.tail_top_m": 7,
    "watch.rows": 5,
    "watch.every_rl_steps": 5,
}


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("base", "teacher.source"),
        ("warmup", "watch.rows"),
        ("adapt", "adapt.sim_rl.lr, watch.every_rl_steps, watch.rows"),
        ("cache", "cache.rollouts"),
        ("ckd", "distill.optimizer.lr, distill.tail_top_m, watch.rows"),
        ("merge", ""),
    ],
)
def test_settings_that_a_stage_has_otherwise_are_named(tmp_path: Path, stage: str, settings: str) -> None:
    path, resolved = tmp_path / "tiny.yaml", tmp_path / engine.RESOLVED
    path.write_text(to_yaml(replace(loaded().recipe, watch=WatchConfig())))
    resolved.write_text(to_yaml(load(path, [f"{key}={value_text(value)}" for key, value in THEIRS.items()]).recipe))
    (found,) = (each for each in pipeline.STAGES if each.name == stage)
    assert sorted(engine._other_settings(found, load(path), resolved).split(", ")) == settings.split(", ")


def test_the_first_settings_are_named_and_the_others_counted(tmp_path: Path) -> None:
    stage = replace(pipeline.STAGES[1], config=lambda item: item.recipe.validate)
    keys = ["cases", "threads", "max_new_tokens", "rows_per_forward", "gates.size_mib", "gates.ttft_ms"]
    (tmp_path / "tiny.yaml").write_text(to_yaml(loaded().recipe))
    theirs = load(tmp_path / "tiny.yaml", [f"validate.{key}=99" for key in [*keys, "gates.decode_tok_s"]])
    (tmp_path / engine.RESOLVED).write_text(to_yaml(theirs.recipe))
    named = ", ".join(f"validate.{key}" for key in keys)
    assert engine._other_settings(stage, loaded(), tmp_path / engine.RESOLVED) == f"{named} and 1 more"


def test_a_setting_of_which_nothing_is_known_is_not_named(tmp_path: Path) -> None:
    """The other run's folder of rows may be gone; where rows lie is no setting of a stage."""

    def config(item: LoadedRecipe) -> object:
        if item.recipe.data.folder == "gone":
            raise ArtifactError("gone: no such folder")
        return item.recipe.seed

    stage = replace(pipeline.STAGES[1], config=config)
    (tmp_path / "tiny.yaml").write_text(to_yaml(loaded().recipe))
    theirs = load(tmp_path / "tiny.yaml", ["data.folder=gone", "seed=5"])
    (tmp_path / engine.RESOLVED).write_text(to_yaml(theirs.recipe))
    assert engine._other_settings(stage, loaded(), tmp_path / engine.RESOLVED) == "seed"


@pytest.mark.parametrize("text", ["", None], ids=["a recipe of another version", "the same recipe"])
def test_another_key_is_told_where_no_setting_is_found(ran: list[str], tmp_path: Path, text: str | None) -> None:
    pipeline.execute(Run(loaded(1), tmp_path / "one", "cpu"))
    (tmp_path / "one" / engine.RESOLVED).write_text(to_yaml(loaded(2).recipe) if text is None else text)
    planned = pipeline.plan(loaded(2), tmp_path / "two", take_from=tmp_path / "one")
    assert planned[1].why_not_taken == "second has another key there: other settings, models or rows"


def test_nothing_is_said_of_stages_behind_until_or_done_here(ran: list[str], tmp_path: Path) -> None:
    one, two = Run(loaded(), tmp_path / "one", "cpu"), Run(loaded(), tmp_path / "two", "cpu")
    pipeline.execute(one, until="second")
    planned = pipeline.plan(two.loaded, two.folder, until="second", take_from=one.folder)
    assert engine.first_not_taken(planned, one.folder) is None
    pipeline.execute(two)
    shutil.rmtree(one.folder / "second")
    planned = pipeline.plan(two.loaded, two.folder, take_from=one.folder)
    assert engine.first_not_taken(planned, one.folder) is None


def test_files_are_copied_where_they_cannot_be_linked(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("cross-device link")

    pipeline.execute(Run(loaded(), tmp_path / "one", "cpu"), until="first")
    monkeypatch.setattr(engine.os, "link", refuse)
    other = Run(loaded(), tmp_path / "two", "cpu")
    pipeline.execute(other, until="first", take_from=tmp_path / "one")
    assert ran == ["first"]
    assert not (other.folder / "first" / "result").samefile(tmp_path / "one" / "first" / "result")


def test_a_stage_that_is_taken_never_looks_begun(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further processes of a launch train along as soon as a stage is begun."""
    pipeline.execute(Run(loaded(), tmp_path / "one", "cpu"))
    other = Run(loaded(), tmp_path / "two", "cpu")
    link, seen = engine._link, []

    def watched(source: Path, target: Path) -> None:
        seen.append([item.state for item in pipeline.plan(other.loaded, other.folder)])
        link(source, target)

    monkeypatch.setattr(engine, "_link", watched)
    pipeline.execute(other, take_from=tmp_path / "one")
    assert len(seen) == 6
    assert not any("continue" in states for states in seen)


def test_only_stages_up_to_until_are_taken(ran: list[str], tmp_path: Path) -> None:
    pipeline.execute(Run(loaded(), tmp_path / "one", "cpu"))
    other = Run(loaded(), tmp_path / "two", "cpu")
    assert states(other, tmp_path / "one", until="second") == ["take", "take", "run"]
    pipeline.execute(other, until="second", take_from=tmp_path / "one")
    assert not (other.folder / "third").exists()


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "done otherwise"])
def test_what_was_made_from_other_results_is_not_taken(ran: list[str], tmp_path: Path, begun: bool) -> None:
    """Two runs of one recipe draw differently: scores of the one's model are not the other's."""
    pipeline.execute(Run(loaded(), tmp_path / "one", "cpu"))
    other = Run(loaded(), tmp_path / "two", "cpu")
    pipeline.execute(other, until="first" if begun else "second")
    key = manifest.read_json(tmp_path / "one" / "second" / manifest.MANIFEST)["key"]
    if begun:
        manifest.begin(other.folder / "second", key)
    else:
        (other.folder / "second" / "result").write_text("SECOND")
        manifest.finish(other.folder / "second", "second", key, details={"name": "second"}, seconds=1)
    assert states(other, tmp_path / "one") == ["done", "continue" if begun else "done", "run"]


@pytest.mark.parametrize("same", [True, False], ids=["the same", "other files"])
def test_behind_a_stage_that_is_taken_only_the_very_same_stays(ran: list[str], tmp_path: Path, same: bool) -> None:
    pipeline.execute(Run(loaded(), tmp_path / "one", "cpu"))
    other = Run(loaded(), tmp_path / "two", "cpu")
    pipeline.execute(other, until="second", take_from=tmp_path / "one")
    if not same:
        key = manifest.read_json(other.folder / "second" / manifest.MANIFEST)["key"]
        manifest.drop(other.folder / "second")
        manifest.begin(other.folder / "second", key)
        (other.folder / "second" / "result").write_text("SECOND")
        manifest.finish(other.folder / "second", "second", key, details={}, seconds=1)
    shutil.rmtree(other.folder / "first")
    assert states(other, tmp_path / "one") == ["take", "done" if same else "take", "take"]
    assert states(other, tmp_path / "one", until="first") == ["take", "done" if same else "run", "run"]
    if not same:
        with pytest.raises(ArtifactError, match="first: missing or damaged, so that second would be done again"):
            pipeline.execute(other, take_from=tmp_path / "one")
    pipeline.execute(other, take_from=tmp_path / "one", force=not same)
    assert (other.folder / "second" / "result").read_text() == "second"
    assert ran == ["first", "second", "third"]


def test_foreign_files_in_a_stages_place_are_left_alone(ran: list[str], tmp_path: Path) -> None:
    pipeline.execute(Run(loaded(), tmp_path / "one", "cpu"))
    other = Run(loaded(), tmp_path / "two", "cpu")
    pipeline.execute(other, until="first")
    (other.folder / "second").mkdir()
    (other.folder / "second" / "mine").write_text("mine")
    with pytest.raises(ArtifactError, match="not empty and not made by star-edge"):
        pipeline.execute(other, take_from=tmp_path / "one")
    assert (other.folder / "second" / "mine").read_text() == "mine"


def test_a_folder_that_is_no_run_lends_nothing(ran: list[str], tmp_path: Path) -> None:
    for run in (pipeline.plan, lambda _, folder, take_from: pipeline.execute(a_run(folder), take_from=take_from)):
        with pytest.raises(ArtifactError, match=r"not a run of star-edge .*give the folder of a run"):
            run(loaded(), tmp_path / "run", take_from=tmp_path)
    assert not (tmp_path / "run").exists()


def a_run(folder: Path) -> Run:
    return Run(loaded(), folder, "cpu")


# ------------------------------------------------------------------------------------------------------- stages


def test_sim_rl_that_takes_no_step_needs_no_rows(tmp_path: Path) -> None:
    none = SimRlConfig(steps=0)
    recipe = replace(
        loaded().recipe,
        adapt=AdaptConfig(sim_rl=none, sources=("elsewhere",)),
        sim_rl=StudentRlConfig(sim_rl=none, sources=("elsewhere",)),
    )
    saved: list[object] = []
    run = SimpleNamespace(recipe=recipe, checkpoint=lambda *names: names[-1], save_checkpoint=saved.append)
    for stage in (pipeline._warmup, pipeline._adapt, pipeline._student_rl):
        stage(run, tmp_path)  # type: ignore[arg-type]
    assert saved == ["teacher", "warmup", "ckd"]


@pytest.mark.parametrize("section", ["adapt", "sim_rl"])
def test_rows_that_sim_rl_lacks_are_missed_before_the_teacher_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, section: str
) -> None:
    monkeypatch.setattr(pipeline, "_examples", lambda run, part: [Example(str(n), "rows", (), ()) for n in range(128)])
    monkeypatch.setattr(pipeline, "_teacher_prompts", lambda run: ([], []))
    recipe = loaded().recipe
    asking = replace(getattr(recipe, section), sources=("elsewhere",))
    run = SimpleNamespace(recipe=replace(recipe, **{section: asking}), checkpoint=lambda *names: None)
    with pytest.raises(TrainingError, match=f"^{section}.sources: no training row of 'elsewhere'; there are rows$"):
        pipeline._warmup(run, tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("use_vllm", [True, False])
def test_vllm_starts_with_room_for_all_ids_that_a_cache_asks_of_it_and_ends_behind_it(
    monkeypatch: pytest.MonkeyPatch, use_vllm: bool
) -> None:
    from star_edge.teacher.engine_rollout import SPARE

    made: list[int] = []
    closed: list[str] = []

    def start(folder: Path, *, max_top_k: int, **_: object) -> SimpleNamespace:
        made.append(max_top_k)
        return SimpleNamespace(close=lambda: closed.append("closed"))

    monkeypatch.setattr("star_edge.models.merge.merge", lambda teacher, out, dtype: SimpleNamespace(folder=out))
    monkeypatch.setattr("star_edge.models.vllm_engine.VllmEngine", start)
    config = TeacherCacheConfig(top_k=7, use_vllm=use_vllm)
    run = SimpleNamespace(recipe=replace(loaded().recipe, cache=config))
    with pipeline._teacher_engine(run, None) as started:  # type: ignore[arg-type]
        assert (started is not None) == use_vllm
        assert not closed
    assert (made, closed) == (([7 + SPARE], ["closed"]) if use_vllm else ([], []))


def test_the_teachers_sim_rl_takes_other_rows_than_its_warmup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [Example(id, "rows", (), ()) for id in "abc"]
    taken: dict[str, list[Example]] = {}

    def training(name: str) -> Callable[..., None]:
        return lambda config, tuning, model, given, out, **_: taken.update({name: given})

    monkeypatch.setattr(pipeline, "_examples", lambda run, part: rows)
    monkeypatch.setattr(pipeline, "_teacher_prompts", lambda run: ([], []))
    monkeypatch.setattr(pipeline, "_codec", lambda run: SimpleNamespace(encode_all=list))
    monkeypatch.setattr(pipeline, "_dataset", lambda run: SimpleNamespace(train_rows=3))
    monkeypatch.setattr("star_edge.distill.trainer.run_sft", training("warmup"))
    monkeypatch.setattr("star_edge.rl.trainer.run_sim_rl", training("adapt"))
    step = SimRlConfig(prompts_per_step=1)
    adapt = AdaptConfig(warmup=OptimizerConfig(), warmup_rows=2, skip_warmup=True, sim_rl=step)
    run = SimpleNamespace(
        recipe=replace(loaded().recipe, adapt=adapt, sim_rl=StudentRlConfig(sim_rl=step)),
        checkpoint=lambda *names: None,
        save_checkpoint=lambda checkpoint: {},
        device="cpu",
        progress=Progress(quiet=True),
    )
    for stage in (pipeline._warmup, pipeline._adapt):
        stage(run, tmp_path)  # type: ignore[arg-type]
    assert taken == {"warmup": rows[:2], "adapt": rows[2:]}


@pytest.mark.parametrize(
    ("every_steps", "every_rl_steps", "supervised", "rl"),
    [(20, None, 20, 20), (20, 5, 20, 5), (None, 5, None, 5)],
)
def test_supervised_stages_and_sim_rl_are_watched_as_often_as_each_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    every_steps: int | None,
    every_rl_steps: int | None,
    supervised: int | None,
    rl: int | None,
) -> None:
    monkeypatch.setattr(pipeline, "_examples", lambda run, part: [])
    monkeypatch.setattr("star_edge.distill.watch.Watch", lambda config, *_, **__: config)
    config = WatchConfig(every_steps=every_steps, every_rl_steps=every_rl_steps)
    run = SimpleNamespace(recipe=replace(loaded().recipe, watch=config), progress=None)
    for is_rl, expected in ((False, supervised), (True, rl)):
        make = pipeline._watch(run, is_rl=is_rl)  # type: ignore[arg-type]
        assert (make is None) == (expected is None)
        assert make is None or make(None, tmp_path).every_steps == expected


def test_a_watch_over_sim_rl_alone_is_no_setting_of_supervised_stages() -> None:
    def key(rows: int, every_steps: int | None) -> object:
        watch = WatchConfig(rows=rows, every_steps=every_steps)
        return keys.warmup_config(replace(loaded().recipe, watch=watch))

    assert key(5, None) == key(6, None) == keys.warmup_config(replace(loaded().recipe, watch=None))
    assert key(5, 20) != key(6, 20)


@pytest.mark.parametrize(
    ("steps", "changes", "again"),
    [
        (4, ["adapt.sim_rl.lr=1.0e-5"], "adapt"),
        (0, ["adapt.sim_rl.lr=1.0e-5"], ""),
        (4, ["adapt.tuning.rank=3"], "warmup adapt"),
        (0, ["adapt.tuning.rank=3"], "warmup"),
        (4, ["adapt.warmup_rows=3"], "warmup"),
        (4, ["adapt.skip_warmup=true"], "adapt"),
        (4, ["adapt.sources=[rows]"], "adapt"),
        (4, ["adapt.kinds=[single]"], "adapt"),
        (0, ["adapt.skip_warmup=true", "adapt.sources=[rows]", "adapt.kinds=[single]"], ""),
        (4, ["sim_rl.sim_rl.lr=1.0e-5"], "sim-rl"),
        (4, ["sim_rl.kinds=[single]"], "sim-rl"),
        (0, ["sim_rl.kinds=[single]", "sim_rl.tuning.rank=3"], ""),
        (4, ["adapt.sim_rl.vllm_memory_share=0.2", "sim_rl.sim_rl.vllm_compile=false"], ""),
        (4, ["cache.vllm_memory_share=0.7"], ""),
        (4, ["cache.use_vllm=true"], "cache"),
        (4, ["watch.rows=7"], "warmup adapt ckd sim-rl"),
        (0, ["watch.rows=7"], "warmup ckd"),
    ],
)
def test_a_stage_is_done_again_for_what_can_change_it(
    tmp_path: Path, steps: int, changes: list[str], again: str
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(replace(loaded().recipe, watch=WatchConfig())))
    given = [f"adapt.sim_rl.steps={steps}", f"sim_rl.sim_rl.steps={steps}"]
    before, after = load(path, given), load(path, [*given, *changes])
    trained = [stage for stage in pipeline.STAGES if stage.name in ("warmup", "adapt", "cache", "ckd", "sim-rl")]
    assert [stage.name for stage in trained if stage.config(before) != stage.config(after)] == again.split()


@pytest.mark.parametrize("config", [keys.adapt_config, keys.student_rl_config])
def test_where_a_vllm_server_is_decides_nothing_but_that_there_is_one_does(config: Callable[[Recipe], object]) -> None:
    def found(server: str | None) -> object:
        sim_rl = SimRlConfig(vllm_server=server)
        return config(replace(loaded().recipe, adapt=AdaptConfig(sim_rl=sim_rl), sim_rl=StudentRlConfig(sim_rl=sim_rl)))

    assert found("10.0.0.2:8000") == found("10.0.0.3:8001") != found(None)


@pytest.mark.parametrize("stage", ["base", "warmup", "adapt", "ckd", "merge"])
def test_answers_of_other_weights_are_not_those_of_the_same_settings(tmp_path: Path, stage: str) -> None:
    """A training with a time budget leaves other weights each time, under one key."""
    run = Run(loaded(), tmp_path, "cpu", keys={"export": "key"})

    def train(weights: str) -> None:
        shutil.rmtree(tmp_path / stage, ignore_errors=True)
        manifest.begin(tmp_path / stage, "key")
        (tmp_path / stage / "model").write_text(weights)
        manifest.finish(tmp_path / stage, stage, "key", details={}, seconds=1)

    train("one")
    before = pipeline._answers(run)
    train("two")
    assert pipeline._answers(run) != before
    train("one")
    assert pipeline._answers(run) == before
    assert pipeline._answers(replace(run, keys={"export": "other"})) != before
