"""The whole flow: which stages there are, in what order, and what each hands to the next.

    base -> data -> warmup -> adapt -> cache -> ckd -> sim-rl -> merge -> evaluate -> export -> validate -> report

`star_edge.engine` runs them. Heavy imports happen inside the stages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from star_edge import engine, keys, manifest
from star_edge.ahead import imports
from star_edge.contracts import Bundle, Checkpoint, Dataset, Example, Recipe, TeacherCache
from star_edge.engine import Details, PlannedStage, Run, Stage
from star_edge.errors import ModelError, TrainingError
from star_edge.preflight import check_stages
from star_edge.recipe import LoadedRecipe

# ------------------------------------------------------------------------------------------------------- stages


def _base(run: Run, out: Path) -> Details:
    from star_edge.models.load import prepare, read_as_other

    recipe = run.recipe
    with tempfile.TemporaryDirectory() as scratch:
        _check_that_prompts_are_the_same(recipe, Path(scratch))  # before gigabytes are converted
    teacher = prepare(recipe.teacher, out / "teacher")
    student = teacher if recipe.student == recipe.teacher else prepare(recipe.student, out / "student")
    if recipe.teacher.chat_template == "student":
        read_as_other(teacher.folder, student.folder)
    return {"teacher": run.save_checkpoint(teacher), "student": run.save_checkpoint(student)}


def _check_that_prompts_are_the_same(recipe: Recipe, scratch: Path) -> None:
    """Refuse a teacher that would read the student's prompts as other tokens.

    Raises: ModelError: another tokenizer, or another template.
    """
    from star_edge.models.load import read_template, tokenizer_fingerprint
    from star_edge.models.tokenizer_folder import prepare_tokenizer

    for name in ("teacher", "student"):
        prepare_tokenizer(getattr(recipe, name), scratch / name)
    names = f"teacher {recipe.teacher.source} and student {recipe.student.source}"
    teacher, student = scratch / "teacher", scratch / "student"
    if tokenizer_fingerprint(teacher) != tokenizer_fingerprint(student):
        raise ModelError(f"vocabularies differ: {names} do not share a tokenizer; choose two models of one family")
    if recipe.teacher.chat_template != "student" and read_template(teacher) != read_template(student):
        raise ModelError(
            f"chat templates differ: {names}; set teacher.chat_template: student, or chat_template: hermes for both"
        )


def _codec(run: Run) -> Any:
    from star_edge.data.chat import ChatCodec
    from star_edge.models.load import load_tokenizer, read_template

    folder = run.checkpoint("base", "student").folder
    return ChatCodec(load_tokenizer(folder), read_template(folder))


def _data(run: Run, out: Path) -> Details:
    from star_edge.data.build import build
    from star_edge.data.table import read_table

    recipe = run.recipe
    dataset = build(
        recipe.data,
        _codec(run),
        out,
        seed=recipe.seed,
        recipe_folder=run.loaded.folder,
        progress=run.progress,
    )
    run.progress.line(read_table(out))
    return {
        "train_rows": dataset.train_rows,
        "heldout_rows": dataset.heldout_rows,
        "unlabelled_rows": dataset.unlabelled_rows,
    }


def _dataset(run: Run) -> Dataset:
    return Dataset(run.stage_folder("data"), **run.details("data"))


def _examples(run: Run, part: Literal["train", "heldout"]) -> list[Example]:
    from star_edge.data.rows import read_examples

    dataset = _dataset(run)
    return read_examples(dataset.train if part == "train" else dataset.heldout)


def _teacher_prompts(run: Run) -> tuple[list[Example], list[Example]]:
    """What the teacher is asked: the training rows' prompts and the unlabelled ones, evenly mixed. And rows behind
    them whose answers it reads."""
    from star_edge.data.mix import mixed
    from star_edge.data.rows import read_prompts

    dataset, config = _dataset(run), run.recipe.cache
    train = _examples(run, "train")
    unlabelled = read_prompts(dataset.unlabelled) if dataset.unlabelled_rows else []
    asked = mixed([train, unlabelled])[: config.prompts]
    ids = {example.id for example in asked}
    return asked, [example for example in train if example.id not in ids][: config.labels]


def _watch(run: Run, *, is_rl: bool = False) -> Any:
    """What scores a model in training on the held-out rows, or None when the recipe asks for none."""
    from star_edge.distill.watch import Watch

    config = run.recipe.watch
    if config is None:
        return None
    if is_rl and config.every_rl_steps is not None:
        config = replace(config, every_steps=config.every_rl_steps)
    if config.every_steps is None:
        return None
    examples = _examples(run, "heldout")
    # Before a supervised stage the model has learnt nothing that could be lost, and its rambling takes long.
    return lambda loaded, out: Watch(config, examples, run.progress, loaded, out, scores_start=is_rl)


def _warmup(run: Run, out: Path) -> Details:
    from star_edge.distill.trainer import run_sft
    from star_edge.rl.rows import warmup_rows

    recipe = run.recipe
    teacher = run.checkpoint("base", "teacher")
    # What Sim-RL lacks is refused now, not behind the teacher's training.
    if recipe.adapt.sim_rl.steps:
        _rows_of_teacher_rl(run)
    if recipe.sim_rl.sim_rl.steps:
        _rows_of_student_rl(run)
    if recipe.adapt.warmup is None:
        return {"checkpoint": run.save_checkpoint(teacher)}
    encoded = _codec(run).encode_all(warmup_rows(recipe.adapt, _examples(run, "train")))
    checkpoint = run_sft(
        recipe.adapt.warmup,
        recipe.adapt.tuning,
        teacher,
        encoded,
        out,
        stage="warmup",
        device=run.device,
        seed=recipe.seed,
        progress=run.progress,
        watch=_watch(run),
    )
    return {"checkpoint": run.save_checkpoint(checkpoint)}


def _sim_rl(
    run: Run, out: Path, stage: str, config: Any, policy: Checkpoint, rows: Callable[[Run], list[Example]], *, seed: int
) -> Details:
    if config.sim_rl.steps == 0:
        return {"checkpoint": run.save_checkpoint(policy)}
    from star_edge.rl.trainer import run_sim_rl  # TRL brings vLLM along, which takes long

    chosen = rows(run)
    run.progress.line(f"  {len(chosen)} of {_dataset(run).train_rows} training rows")
    checkpoint = run_sim_rl(
        config.sim_rl,
        config.tuning,
        policy,
        chosen,
        out,
        stage=stage,
        device=run.device,
        seed=seed,
        progress=run.progress,
        watch=_watch(run, is_rl=True),
    )
    return {"checkpoint": run.save_checkpoint(checkpoint)}


def _adapt(run: Run, out: Path) -> Details:
    policy, seed = run.checkpoint("warmup"), run.recipe.seed + 1
    return _sim_rl(run, out, "adapt", run.recipe.adapt, policy, _rows_of_teacher_rl, seed=seed)


def _rows_of_teacher_rl(run: Run) -> list[Example]:
    from star_edge.rl.rows import teacher_rows

    return teacher_rows(run.recipe.adapt, _examples(run, "train"))


@contextmanager
def _teacher_engine(run: Run, teacher: Checkpoint) -> Iterator[Any]:
    """vLLM with the teacher's weights for as long as the block lasts, or None when the recipe does without."""
    config, data = run.recipe.cache, run.recipe.data
    if not config.use_vllm:
        yield None
        return
    from star_edge.models.merge import merge
    from star_edge.models.vllm_engine import VllmEngine
    from star_edge.teacher.engine_rollout import SPARE

    with tempfile.TemporaryDirectory() as scratch:
        engine = VllmEngine(
            merge(teacher, Path(scratch) / "teacher", dtype="bfloat16").folder,
            max_model_len=data.max_prompt_tokens + config.max_new_tokens,
            gpu_memory_utilization=config.vllm_memory_share,
            seed=run.recipe.seed,
            max_top_k=config.top_k + SPARE,
        )
        try:
            yield engine
        finally:
            engine.close()


def _cache(run: Run, out: Path) -> Details:
    from star_edge.models.load import load, read_template, tokenizer_fingerprint
    from star_edge.teacher.cache import CacheFingerprint, build, refuse_without_completions

    recipe = run.recipe
    teacher = run.checkpoint("adapt")
    fingerprint = CacheFingerprint.of(
        teacher,
        label=recipe.teacher.source,
        revision=recipe.teacher.revision,
        tokenizer=tokenizer_fingerprint(run.checkpoint("base", "teacher").folder),
        template=read_template(run.checkpoint("base", "teacher").folder),
        config=recipe.cache,
    )
    asked, labelled = _teacher_prompts(run)
    with _teacher_engine(run, teacher) as engine:
        cache = build(
            lambda: load(teacher, device=run.device, dtype="float32" if run.device == "cpu" else "bfloat16"),
            _codec(run),
            asked,
            recipe.cache,
            out,
            fingerprint=fingerprint,
            seed=recipe.seed + 2,
            progress=run.progress,
            engine=engine,
            labelled=labelled,
        )
    if asked:
        refuse_without_completions(cache, labels=len(labelled), config=recipe.cache)
    return {"rows": cache.rows, "positions": cache.positions, "top_k": cache.top_k}


def _ckd(run: Run, out: Path) -> Details:
    from star_edge.distill.trainer import run_ckd

    cache = TeacherCache(run.stage_folder("cache"), **run.details("cache"))
    checkpoint = run_ckd(
        run.recipe.distill,
        run.checkpoint("base", "student"),
        cache,
        out,
        device=run.device,
        seed=run.recipe.seed + 3,
        progress=run.progress,
        watch=_watch(run),
    )
    return {"checkpoint": run.save_checkpoint(checkpoint)}


def _student_rl(run: Run, out: Path) -> Details:
    policy, seed = run.checkpoint("ckd"), run.recipe.seed + 4
    return _sim_rl(run, out, "sim-rl", run.recipe.sim_rl, policy, _rows_of_student_rl, seed=seed)


def _rows_of_student_rl(run: Run) -> list[Example]:
    from star_edge.rl.rows import student_rows

    distilled = {example.id for rows in _teacher_prompts(run) for example in rows}
    return student_rows(run.recipe.sim_rl, _examples(run, "train"), distilled=distilled)


def _merge(run: Run, out: Path) -> Details:
    from star_edge.models.merge import merge

    return {"checkpoint": run.save_checkpoint(merge(run.checkpoint("sim-rl"), out / "model"))}


LABELS = {"base": "base", "adapt": "adapted teacher", "ckd": "CKD", "merge": "CKD + Sim-RL"}
"""What a report calls the checkpoint that a stage left."""


def _student_or_teacher(run: Run, stage: str) -> Checkpoint:
    """The checkpoint that one of `LABELS` stands for."""
    return run.checkpoint(stage, "student") if stage == "base" else run.checkpoint(stage)


def _evaluate(run: Run, out: Path) -> Details:
    config = run.recipe.evaluate
    if config is None:
        return {}
    from star_edge.answering.stage import evaluate_checkpoints

    evaluate_checkpoints(
        config,
        {name: _student_or_teacher(run, name) for name in config.checkpoints},
        _dataset(run).heldout,
        out,
        recipe_folder=run.loaded.folder,
        device=run.device,
        progress=run.progress,
    )
    return {"checkpoints": list(config.checkpoints), "suites": list(config.labels)}


WEIGHTS = ("base", "warmup", "adapt", "ckd", "merge")
"""The stages whose files are the checkpoints of `LABELS`; `adapt` hands the warm-up's on where it takes no step."""


def _answers(run: Run) -> Path:
    """What the checkpoints and files of this very export said; kept when the validation is done again.

    A key hashes settings, and training under the same ones again leaves other weights: these are in the name too.
    """
    manifests = {name: run.stage_folder(name) / manifest.MANIFEST for name in WEIGHTS}
    weights = {name: manifest.read_json(path)["files"] for name, path in manifests.items() if path.exists()}
    return run.folder / "answers" / manifest.hash_json([run.keys["export"], weights])[:16]


def _export(run: Run, out: Path) -> Details:
    from star_edge.parity.exports import export_all

    recipe = run.recipe
    bundles = export_all(
        recipe.export,
        recipe.validate,
        run.checkpoint("merge"),
        _examples(run, "heldout"),
        out,
        answers=_answers(run),
        device=run.device,
        progress=run.progress,
    )
    return {"bundles": [bundle.folder.name for bundle in bundles]}


def read_bundles(run_folder: Path) -> list[Bundle]:
    """The bundles of a finished export, in the recipe's order.

    Raises: ArtifactError: the export is not finished, or a bundle is damaged.
    """
    from star_edge_export.bundle import read_bundle

    folder = run_folder / "export"
    names = manifest.read_json(folder / manifest.MANIFEST)["details"]["bundles"]
    return [read_bundle(folder / name) for name in names]


def _validate(run: Run, out: Path) -> Details:
    from star_edge.parity.validation import validate_run

    checkpoints = {label: _student_or_teacher(run, name) for name, label in LABELS.items()}
    return validate_run(
        run.recipe.validate,
        checkpoints,
        read_bundles(run.folder),
        _examples(run, "heldout"),
        out,
        answers=_answers(run),
        device=run.device,
        progress=run.progress,
    )


STAGES: tuple[Stage, ...] = (
    Stage("base", "load teacher and student", keys.base_config, (), _base),
    Stage("data", "normalise, render and split the rows", keys.data_config, ("base",), _data),
    Stage(
        "warmup",
        "supervised warm-up of the teacher",
        keys.seeded(keys.warmup_config),
        ("data",),
        _warmup,
        is_training=True,
        uses_gpu=True,
        prepare=imports("star_edge.distill.trainer", needed=lambda r: r.adapt.warmup is not None),
    ),
    Stage(
        "adapt",
        "adapt the teacher by Sim-RL",
        keys.seeded(keys.adapt_config),
        ("warmup",),
        _adapt,
        is_training=True,
        uses_gpu=True,
        prepare=imports("star_edge.rl.trainer", needed=lambda r: r.adapt.sim_rl.steps > 0),
    ),
    Stage(
        "cache",
        "teacher rollouts and top-k cache",
        keys.seeded(lambda r: r.cache.deciding()),
        ("adapt",),
        _cache,
        uses_gpu=True,
        prepare=imports("star_edge.teacher.cache", vllm=lambda r: r.cache.use_vllm),
    ),
    Stage(
        "ckd",
        "constrained knowledge distillation",
        keys.seeded(lambda r: (r.distill, keys.supervised_watch(r))),
        ("cache",),
        _ckd,
        is_training=True,
        uses_gpu=True,
        prepare=imports("star_edge.distill.trainer"),
    ),
    Stage(
        "sim-rl",
        "Sim-RL on the student",
        keys.seeded(keys.student_rl_config),
        ("ckd",),
        _student_rl,
        is_training=True,
        uses_gpu=True,
        prepare=imports("star_edge.rl.trainer", needed=lambda r: r.sim_rl.sim_rl.steps > 0),
    ),
    Stage("merge", "merge the adapter into the student", lambda _: None, ("sim-rl",), _merge),
    Stage(
        "evaluate",
        "score checkpoints on suites",
        keys.evaluate_config,
        ("merge",),
        _evaluate,
        is_measurement=True,
        uses_gpu=True,
        prepare=imports(
            "star_edge.answering.stage",
            needed=lambda r: r.evaluate is not None,
            vllm=lambda _: find_spec("vllm") is not None,
        ),
    ),
    Stage(
        "export",
        "write and check GGUF and ONNX files",
        keys.seeded(lambda r: r.export),
        ("merge",),
        _export,
        is_measurement=True,
    ),
    Stage(
        "validate",
        "accuracy and latency of every file",
        keys.seeded(keys.validate_config),
        ("export",),
        _validate,
        is_measurement=True,
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def plan(
    loaded: LoadedRecipe, folder: Path, *, until: str | None = None, take_from: Path | None = None
) -> list[PlannedStage]:
    """What running the recipe in that folder would do (see `engine.plan`)."""
    return engine.plan(STAGES, loaded, folder, until=until, take_from=take_from)


def execute(run: Run, *, until: str | None = None, force: bool = False, take_from: Path | None = None) -> None:
    """Run the recipe, or what is left of it (see `engine.execute`).

    Raises: TrainingError, RuntimeMissing: a stage of those could not run in this launch (see `preflight.check_stages`).
    """
    check = partial(check_stages, run.recipe)
    engine.execute(STAGES, run, until=until, force=force, take_from=take_from, check=check)


def stage_seconds(folder: Path) -> dict[str, float]:
    """Seconds that each finished stage took (see `engine.stage_seconds`)."""
    return engine.stage_seconds(STAGES, folder)


def resolve_device(device: str) -> str:
    """`auto` as the device there is.

    Raises: TrainingError: the recipe asks for a GPU and there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device is cuda, but torch sees no GPU; use --set device=auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
