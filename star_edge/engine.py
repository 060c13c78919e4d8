"""What runs a list of stages: keys, resume, the claim on a folder, one process or many.

A stage is a function `(Run, folder) -> details`. Its key hashes its part of the recipe and the keys of the stages it
needs, so every key is known before anything runs, and a finished stage is skipped while its key still stands in its
manifest and the stages it needs are skipped too: one that is done again leaves other files under the same key. Under
torchrun or `accelerate launch` the first process does everything; the others train along and wait for the rest.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from star_edge import manifest
from star_edge.alone import alone
from star_edge.contracts import Checkpoint, Recipe
from star_edge.errors import ArtifactError, RecipeError, StarEdgeError
from star_edge.launch import is_launched, rank
from star_edge.own_process import OwnProcess
from star_edge.progress import Progress
from star_edge.recipe import LoadedRecipe, load, recipe_hash, to_yaml

RESOLVED = "recipe.resolved.yaml"
REPORTS = ("report.json", "report.md")
SECONDS_BETWEEN_LOOKS = 0.2
MOST_SETTINGS = 6  # that one line names
Details = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of a recipe: its folder and everything a stage may ask for."""

    loaded: LoadedRecipe
    folder: Path
    device: str
    progress: Progress = field(default_factory=lambda: Progress(quiet=True))
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe

    def stage_folder(self, stage: str) -> Path:
        return self.folder / stage

    def details(self, stage: str) -> Details:
        """What a finished stage wrote down for the ones after it."""
        details: Details = manifest.read_json(self.stage_folder(stage) / manifest.MANIFEST)["details"]
        return details

    def save_checkpoint(self, checkpoint: Checkpoint) -> Details:
        """A checkpoint as JSON, with paths relative to the run's folder so that a run can be moved."""
        base = (
            None if checkpoint.base is None else checkpoint.base.resolve().relative_to(self.folder.resolve()).as_posix()
        )
        folder = checkpoint.folder.resolve().relative_to(self.folder.resolve()).as_posix()
        return {"folder": folder, "stage": checkpoint.stage, "base": base}

    def checkpoint(self, stage: str, name: str = "checkpoint") -> Checkpoint:
        """The checkpoint that a finished stage left."""
        saved = self.details(stage)[name]
        base = None if saved["base"] is None else self.folder / saved["base"]
        return Checkpoint(self.folder / saved["folder"], saved["stage"], base)


@dataclass(frozen=True)
class Stage:
    """A step of the flow.

    config: picks its part of the recipe. needs: the stages whose keys enter its own.
    is_training: all processes of a launch run it. is_measurement: quick enough to be done again without asking.
    uses_gpu: outside a launch it runs in a process of its own, which leaves the GPU to the next one.
    prepare: for a recipe what that process calls while a stage before still runs: its imports, or None.
    scratch: names in its folder that only a resume needs.
    """

    name: str
    what: str
    config: Callable[[LoadedRecipe], Any]
    needs: tuple[str, ...]
    run: Callable[[Run, Path], Details]
    is_training: bool = False
    is_measurement: bool = False
    uses_gpu: bool = False
    prepare: Callable[[Recipe], Callable[[], object] | None] | None = None
    scratch: tuple[str, ...] = ("trainer", "scratch")


@dataclass(frozen=True)
class PlannedStage:
    """A stage with its key and what running the recipe now would do with it; `take`: have it from another run.

    why_not_taken: what keeps another run from lending it; None where none was asked, or nothing does.
    """

    stage: Stage
    key: str
    state: Literal["done", "continue", "run", "take"]
    why_not_taken: str | None = None


# ------------------------------------------------------------------------------------------------------- engine


def plan(
    stages: Sequence[Stage],
    loaded: LoadedRecipe,
    folder: Path,
    *,
    until: str | None = None,
    take_from: Path | None = None,
) -> list[PlannedStage]:
    """Every stage with its key and state; nothing is run or written (a hub model is fetched, for its hash).

    Args:
        take_from: another run, from which stages up to `until` are taken where they can stand for this one's.
    Raises: StarEdgeError: a file the recipe names is missing, rows do not fit a model, or `take_from` is no run.
    """
    if take_from is not None and not (take_from / RESOLVED).is_file():
        raise ArtifactError(f"{take_from}: not a run of star-edge (no {RESOLVED} in it); give the folder of a run")
    keys = _keys(stages, loaded)
    done: set[str] = set()
    planned = []
    for stage in stages:
        key = keys[stage.name]
        state = _state(folder / stage.name, key) if done.issuperset(stage.needs) else "run"
        if state == "done":
            done.add(stage.name)
        planned.append(PlannedStage(stage, key, state))
    return planned if take_from is None else _with_taken(planned, loaded, folder, take_from, until)


def _keys(stages: Sequence[Stage], loaded: LoadedRecipe) -> dict[str, str]:
    keys: dict[str, str] = {}
    for stage in stages:
        inputs = {name: keys[name] for name in stage.needs}
        keys[stage.name] = manifest.stage_key(stage.name, stage.config(loaded), inputs)
    return keys


def _state(folder: Path, key: str) -> Literal["done", "continue", "run"]:
    if manifest.is_done(folder, key):
        return "done"
    return "continue" if _is_begun(folder, key) else "run"


def _is_begun(folder: Path, key: str) -> bool:
    marker = manifest.read_if_there(folder / manifest.IN_PROGRESS)
    return marker is not None and marker.get("key") == key


def execute(
    stages: Sequence[Stage],
    run: Run,
    *,
    until: str | None = None,
    force: bool = False,
    take_from: Path | None = None,
    check: Callable[[set[str]], None] = lambda _: None,
) -> None:
    """Run what is not done yet, in order, up to and including `until`.

    Args:
        check: is asked with the names of the stages that will be run, before anything is made; raises to refuse them.
        take_from: folder of another run, whose finished stages are taken over where they would come out the same.
    Raises:
        ArtifactError: the folder holds foreign files, another process works there, `take_from` is no run, or finished
            training of another recipe, or made from a stage that is gone, would be lost and `force` is False.
        StarEdgeError: whatever a stage refuses; finished stages stay as they are.
    """
    if rank() > 0:
        _follow(stages, run, until)
        return
    if manifest.holds_anything(run.folder) and not (run.folder / RESOLVED).exists():
        raise ArtifactError(f"{run.folder}: exists and is not a run of star-edge; choose another --out")
    planned = plan(stages, run.loaded, run.folder, until=until, take_from=take_from)  # refuses before anything is made
    check({item.stage.name for item in up_to(planned, until) if item.state in ("run", "continue")})
    run.folder.mkdir(parents=True, exist_ok=True)
    with alone(run.folder, run.folder / manifest.LOCK):
        planned = plan(stages, run.loaded, run.folder, until=until, take_from=take_from)
        _claim(planned, run, force=force)
        if line := first_not_taken(planned, take_from):
            run.progress.line(line)
        run = replace(run, keys={item.stage.name: item.key for item in planned})
        wanted = up_to(planned, until)
        with closing(_GpuProcesses([item.stage for item in wanted if item.state in ("run", "continue")], run)) as gpu:
            for index, item in enumerate(wanted, start=1):
                _execute_stage(run, item, f"[{index}/{len(planned)}] {item.stage.name}", take_from, gpu)


def up_to(planned: Sequence[PlannedStage], until: str | None) -> list[PlannedStage]:
    """The stages that are asked for: all, or those as far as `until`."""
    names = [item.stage.name for item in planned]
    return list(planned if until is None else planned[: names.index(until) + 1])


def lost_stages(planned: Sequence[PlannedStage], folder: Path) -> list[str]:
    """Stages that were finished and took long, which the plan would do again."""
    again = [item.stage.name for item in planned if item.state in ("run", "take") and not item.stage.is_measurement]
    return [name for name in again if (folder / name / manifest.MANIFEST).exists()]


def lost_work(planned: Sequence[PlannedStage], folder: Path) -> str | None:
    """One line on what `lost_stages` names and why it would be done again; None where that is nothing."""
    lost = lost_stages(planned, folder)
    if not lost:
        return None
    keys = {item.stage.name: item.key for item in planned}
    if any(manifest.read_json(folder / name / manifest.MANIFEST).get("key") != keys[name] for name in lost):
        again = f"whose {', '.join(lost)} would be done again"
        return f"{folder}: holds a run of another recipe or other --set values, {again}"
    first = next(item.stage.name for item in planned if item.state != "done")
    return f"{folder / first}: missing or damaged, so that {', '.join(lost)} would be done again"


def first_not_taken(planned: Sequence[PlannedStage], take_from: Path | None) -> str | None:
    """One line on the first stage that is run though another run was asked for it; those behind it follow."""
    for item in planned:
        if item.state in ("run", "continue") and item.why_not_taken:
            return f"{item.stage.name} is run here and not taken from {take_from}: {item.why_not_taken}"
    return None


def _claim(planned: Sequence[PlannedStage], run: Run, *, force: bool) -> None:
    """Write the recipe into the run's folder, unless finished work that took long would have to be done again.

    What the recipe does not make of what is there goes at once, behind `--until` too: nobody may take it for the
    recipe's, and a stage that is done again leaves its key on other files than the ones behind it were made from.
    """
    if not force and (lost := lost_work(planned, run.folder)):
        raise ArtifactError(f"{lost}; choose another --out, or --force")
    text = f"# {recipe_hash(run.recipe)}\n{to_yaml(run.recipe)}"
    resolved = run.folder / RESOLVED
    is_new = not resolved.exists() or resolved.read_text(encoding="utf-8") != text
    if is_new or any(item.state != "done" for item in planned):
        for name in REPORTS:
            (run.folder / name).unlink(missing_ok=True)
    for item in reversed(planned):  # after a kill in between, what is left still lacks nothing that it was made from
        if item.state in ("run", "take"):
            manifest.drop(run.stage_folder(item.stage.name))
    if is_new:
        manifest.write_atomic(resolved, text)


def _with_taken(
    planned: Sequence[PlannedStage], loaded: LoadedRecipe, folder: Path, other: Path, until: str | None
) -> list[PlannedStage]:
    """The plan, with what another run can lend.

    Keys say that two stages were made from the same settings; draws and minutes still make two results of them. So what
    a stage was made from must be the very files that this run has, or takes too. Behind a stage that is taken, what
    this run has itself stays where it is the very same.
    """
    reasons: dict[str, str] = {}
    found = []
    asked = {item.stage.name for item in up_to(planned, until)}
    for item in planned:
        name = item.stage.name
        inherited = (reasons[need] for need in item.stage.needs if need in reasons)
        reason = next(inherited, None) or _why_not_taken(item, loaded, folder / name, other / name)
        if reason is None and item.state == "run":
            has_it = manifest.is_done(folder / name, item.key) and _files(folder / name) == _files(other / name)
            if not has_it and name not in asked:
                reason = f"{name} is not asked for"
            item = replace(item, state="done" if has_it else "take" if name in asked else "run")
        if reason is not None:
            reasons[name] = reason
            item = replace(item, why_not_taken=reason if name in asked else None)
        found.append(item)
    return found


def _why_not_taken(item: PlannedStage, loaded: LoadedRecipe, ours: Path, theirs: Path) -> str | None:
    """What keeps a stage of another run from standing for this run's, where the stages that it needs do."""
    name = item.stage.name
    if not (theirs / manifest.MANIFEST).exists():
        return f"{name} is not finished there"
    if manifest.read_json(theirs / manifest.MANIFEST).get("key") != item.key:
        if settings := _other_settings(item.stage, loaded, theirs.parent / RESOLVED):
            return f"{name} has other settings there: {settings}"
        return f"{name} has another key there: other settings, models or rows"
    if not manifest.is_done(theirs, item.key):
        return f"files of {name} are missing or cut short there"
    if item.state == "continue":
        return f"{name} is already begun here"
    if item.state == "done" and _files(ours) != _files(theirs):
        return f"{name} has the same settings here, but other files"
    return None


def _other_settings(stage: Stage, loaded: LoadedRecipe, resolved: Path) -> str:
    """The settings of a stage that the recipe of another run has otherwise, by their dotted keys.

    Empty when none is found: models or rows differ under one name, or that recipe was changed behind the stage.
    """

    def made_from(recipe: Recipe) -> Any:
        if not stage.needs:  # the models alone, of which the others might have to be fetched
            return recipe.teacher, recipe.student
        return manifest.plain(stage.config(replace(loaded, recipe=recipe)))

    try:
        theirs = load(resolved).recipe
    except RecipeError:
        return ""
    ours = made_from(loaded.recipe)

    def matters(recipe: Recipe) -> bool:
        try:
            return bool(made_from(recipe) != ours)
        except StarEdgeError:  # a file that the other run had, of which nothing is known
            return False

    found = list(_differing(loaded.recipe, theirs, matters))
    more = f" and {len(found) - MOST_SETTINGS} more" if len(found) > MOST_SETTINGS else ""
    return ", ".join(found[:MOST_SETTINGS]) + more


def _differing(ours: Any, theirs: Any, matters: Callable[[Any], bool], section: str = "") -> Iterator[str]:
    """Dotted keys where two sections of a recipe differ, as far as ours with the other value there `matters`."""
    for each in dataclasses.fields(ours):
        mine, other = getattr(ours, each.name), getattr(theirs, each.name)

        def matters_with(value: Any, name: str = each.name) -> bool:
            return matters(replace(ours, **{name: value}))

        if mine == other or not matters_with(other):
            continue
        if dataclasses.is_dataclass(mine) and dataclasses.is_dataclass(other):
            yield from _differing(mine, other, matters_with, f"{section}{each.name}.")
        else:
            yield f"{section}{each.name}"


def _files(folder: Path) -> Any:
    return manifest.read_json(folder / manifest.MANIFEST)["files"]


def _take(item: PlannedStage, run: Run, other: Path) -> None:
    """Give the run a finished stage of another: its artifact's files, linked where the file system can, else copied.

    Raises: ArtifactError: foreign files lie in the stage's place, or the other run was changed meanwhile.
    """
    theirs, ours = other / item.stage.name, run.stage_folder(item.stage.name)
    manifest.drop_older(ours, item.key)  # not `begin`: further processes of a launch would take it for a stage to train
    try:
        with manifest.replacing(ours) as passing:
            for name in (*_files(theirs), manifest.MANIFEST):
                (passing / name).parent.mkdir(parents=True, exist_ok=True)
                _link(theirs / name, passing / name)
    except OSError as error:
        raise ArtifactError(f"{theirs}: cannot be taken over ({error}); leave --from out, or try again") from error


def _link(source: Path, target: Path) -> None:
    """Finished artifacts are never written to, only replaced, so that two runs may share a file."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


class _GpuProcesses:
    """Runs stages that use the GPU where it is free for them: in a process of their own, one after the other.

    vLLM refuses to start beside what an earlier stage still holds. The next stage's process imports meanwhile.
    """

    def __init__(self, stages: Sequence[Stage], run: Run) -> None:
        """`stages`: all that will be run, in order."""
        self._due = [stage for stage in stages if _has_own_process(stage, run)]
        self._run = run
        self._next: OwnProcess | None = None

    def details(self, stage: Stage, run: Run, folder: Path) -> Details:
        """What the stage says, run in its process or, where it has none, in this one."""
        self._stand_by()
        if stage not in self._due:
            return stage.run(run, folder)
        process, self._next = self._next, None
        assert process is not None  # this stage was due
        self._due.remove(stage)
        try:
            self._stand_by()
            return process.run(stage.run, run, folder)
        finally:
            process.end()

    def _stand_by(self) -> None:
        if self._next is not None and not self._next.is_alive():  # killed while it waited, for memory perhaps
            self._next.end()
            self._next = None
        if self._next is None and self._due:
            prepare = self._due[0].prepare
            self._next = OwnProcess(None if prepare is None else prepare(self._run.recipe))

    def close(self) -> None:
        """End the process that waits, if there is one."""
        if self._next is not None:
            self._next.end()


def _has_own_process(stage: Stage, run: Run) -> bool:
    return stage.uses_gpu and run.device != "cpu" and not is_launched()


def _execute_stage(run: Run, item: PlannedStage, title: str, take_from: Path | None, gpu: _GpuProcesses) -> None:
    folder = run.stage_folder(item.stage.name)
    if item.state == "done":
        run.progress.line(f"{title}: already done")
        return
    if item.state == "take" and take_from is not None:
        _take(item, run, take_from)
        run.progress.line(f"{title}: taken from {take_from}")
        return
    run.progress.line(f"{title}: {item.stage.what}")
    spent = manifest.begin(folder, item.key)
    started = time.monotonic()
    details = gpu.details(item.stage, run, folder)
    seconds = spent + time.monotonic() - started
    manifest.finish(folder, item.stage.name, item.key, details=details, seconds=seconds, scratch=item.stage.scratch)
    run.progress.line(f"{title}: done in {seconds:.0f} s")


def _follow(stages: Sequence[Stage], run: Run, until: str | None) -> None:
    """A further process of a launch. If the first one fails, the launcher ends this one.

    It looks at a stage when all before it are done. By then the first process has removed what it will do again: it
    does so before it begins the first stage that is not done.
    """
    keys = _keys(stages, run.loaded)
    for stage in stages:
        folder, key = run.stage_folder(stage.name), keys[stage.name]
        if stage.is_training:
            _wait(lambda folder=folder, key=key: _is_begun(folder, key) or manifest.is_done(folder, key))  # type: ignore[misc]
            if not manifest.is_done(folder, key):
                stage.run(run, folder)
        _wait(lambda folder=folder, key=key: manifest.is_done(folder, key))  # type: ignore[misc]
        if stage.name == until:
            break


def _wait(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(SECONDS_BETWEEN_LOOKS)


def stage_seconds(stages: Sequence[Stage], folder: Path) -> dict[str, float]:
    """Seconds that each finished stage took, from the manifests.

    Raises: ArtifactError: a manifest is damaged.
    """
    found = {}
    for stage in stages:
        path = folder / stage.name / manifest.MANIFEST
        if path.exists():
            seconds = manifest.read_json(path).get("seconds")
            if not isinstance(seconds, (int, float)):
                raise ArtifactError(f"{path}: says no seconds; remove the folder and run the command again")
            found[stage.name] = float(seconds)
    return found
