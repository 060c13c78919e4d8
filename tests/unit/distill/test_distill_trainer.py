import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from star_edge.contracts import (
    Checkpoint,
    DistillConfig,
    Example,
    OptimizerConfig,
    TeacherCacheConfig,
    TuningConfig,
    WatchConfig,
)
from star_edge.data.chat import EncodedExample
from star_edge.distill import trainer as module
from star_edge.distill import training
from star_edge.distill.chunked import objective_sum
from star_edge.distill.objectives import BASELINES, objective_of
from star_edge.distill.time_budget import TimeBudget
from star_edge.distill.trainer import DistillTrainer, run_ckd, run_sft, training_arguments
from star_edge.distill.training import newest_checkpoint, rows_per_device
from star_edge.distill.watch import Watch
from star_edge.errors import TeacherCacheError, TrainingError
from star_edge.models.load import load, tokenizer_fingerprint
from star_edge.models.packing import add_counted_forward
from star_edge.progress import or_quiet
from star_edge.teacher.cache import CacheFingerprint, build, open_cache
from star_edge.teacher.rollout import Rollout
from star_edge.teacher.signal import CachedSignal, LabelSignal, LiveSignal

OPTIMIZER = OptimizerConfig(
    lr=1e-3, warmup_share=0.0, rows_per_step=6, rows_per_forward=3, max_steps=4, save_every=2, precision="float32"
)
LORA = TuningConfig(rank=4, alpha=8, last_layers=1)
FULL = TuningConfig(method="full")
EXAMPLE = Example("row", "test", ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}), ())


def encoded_rows(count=18):
    """Rows of many lengths, two answers to every third prompt."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(count):
        length = 5 + number % 7
        prompt = rows[-1].prompt_ids if number % 3 == 1 else draw(length, generator)
        rows.append(EncodedExample(str(number), (*prompt, *draw(2 + number % 5, generator)), len(prompt)))
    return rows


def draw(length, generator):
    return tuple(torch.randint(3, 700, (length,), generator=generator).tolist())


@pytest.fixture(scope="module")
def student(tiny_student):
    return Checkpoint(tiny_student, "base")


def sft(student, out, *, tuning=LORA, rows=None, **changes):
    optimizer = replace(OPTIMIZER, **changes)
    return run_sft(optimizer, tuning, student, rows or encoded_rows(), out, stage="warmup", device="cpu", seed=1)


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def weights(checkpoint):
    (file,) = checkpoint.folder.glob("*.safetensors")
    return load_file(file)


def one_step(student, out, *, signal=None, objective=None, rows=None, per_forward=6, tokens=None):
    """A Trainer that does one step of six rows by SGD-free means: its gradients are left on the model."""
    rows = rows or [(row.prompt_ids, row.completion_ids) for row in encoded_rows(6)]
    optimizer = replace(OPTIMIZER, rows_per_forward=per_forward, tokens_per_forward=tokens, max_steps=1, lr=0.0)
    args = training_arguments(optimizer, out, rows=len(rows), device="cpu", seed=1)
    args.max_grad_norm = 0.0
    model = load(student, device="cpu", trainable=True).model
    trainer = DistillTrainer(
        model,
        args,
        rows=rows,
        signal=signal or LabelSignal(),
        objective=objective or BASELINES["ce"],
        optimizer=optimizer,
        chunk=7,
    )
    collected = {}

    def collect(optimizer, *_):
        collected.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(collect)
    loss = trainer.train().training_loss
    return loss, collected


def test_a_finished_training_is_only_judged_again(student, tmp_path, monkeypatch):
    """Killed between the last step and the stage's end: the best weights are chosen, no step is done again."""
    scores = iter([0.0, 1.0, 0.5])
    monkeypatch.setattr(Watch, "_answered", lambda self: {"score": next(scores), "malformed": 0.0})
    config = WatchConfig(every_steps=2, max_drop=None)

    def stage():
        return run_sft(
            OPTIMIZER, LORA, student, encoded_rows(), tmp_path, stage="warmup", device="cpu", seed=1,
            watch=lambda loaded, out: Watch(config, [EXAMPLE], or_quiet(None), loaded, out),
        )  # fmt: skip

    first = weights(stage())
    log = (tmp_path / "log.jsonl").read_text()
    again = weights(stage())
    assert (tmp_path / "log.jsonl").read_text() == log
    assert all(torch.equal(first[name], again[name]) for name in first)
    last = load_file(tmp_path / "trainer" / "checkpoint-4" / "adapter_model.safetensors")
    assert any(not torch.equal(first[name], last[name]) for name in first)


def test_the_log_counts_the_tokens_that_were_learnt(student, tmp_path):
    rows = encoded_rows()
    sft(student, tmp_path, rows=rows, max_steps=6)  # two epochs
    counted = [json.loads(line)["counted_tokens"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(counted) == 2 * sum(len(row.completion_ids) for row in rows)


@pytest.mark.slow
def test_packing_ahead_in_another_process_changes_nothing(student, tmp_path, monkeypatch):
    changes = {"epochs": 2.0, "tokens_per_forward": 40}
    here = weights(sft(student, tmp_path / "here", **changes))
    monkeypatch.setattr(module, "packing_workers", lambda device: 1)
    ahead = weights(sft(student, tmp_path / "ahead", **changes))
    assert losses(tmp_path / "ahead") == losses(tmp_path / "here")
    assert all(torch.equal(here[name], ahead[name]) for name in here)


@pytest.mark.parametrize(
    ("device", "method", "workers"), [("cuda", "fork", 1), ("cuda", "spawn", 0), ("cpu", "fork", 0)]
)
def test_a_worker_packs_ahead_where_it_can_be_forked(device, method, workers, monkeypatch):
    monkeypatch.setattr(module.multiprocessing, "get_start_method", lambda allow_none: method)
    assert module.packing_workers(device) == workers


def test_fine_tuning_learns_its_rows_and_leaves_an_adapter(student, tmp_path):
    rows = encoded_rows(6)
    checkpoint = sft(student, tmp_path, rows=rows, lr=2e-2, max_steps=12)
    assert checkpoint == Checkpoint(tmp_path / "adapter", "warmup", student.folder)
    steps = losses(tmp_path)
    assert len(steps) == 12
    assert steps[-1] < steps[0] - 1.0
    assert load(checkpoint, device="cpu").model.peft_config["default"].r == 4


def test_full_fine_tuning_leaves_a_model_with_the_tokenizers_own_bytes(student, tmp_path):
    checkpoint = sft(student, tmp_path, tuning=FULL, max_steps=1)
    assert not checkpoint.is_adapter
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (checkpoint.folder / name).read_bytes() == (student.folder / name).read_bytes()
    assert {path.name for path in checkpoint.folder.iterdir()} == {path.name for path in student.folder.iterdir()}
    before, after = load_file(student.folder / "model.safetensors"), weights(checkpoint)
    assert before.keys() == after.keys()
    assert not torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


@pytest.mark.slow
def test_loss_is_the_mean_over_counted_tokens_however_the_step_is_cut(student, tmp_path):
    rows = encoded_rows(6)
    model = load(student, device="cpu").model
    total = sum(
        torch.nn.functional.cross_entropy(
            model(input_ids=torch.tensor([row.input_ids])).logits[0, row.prompt_length - 1 : -1],
            torch.tensor(row.completion_ids),
            reduction="sum",
        )
        for row in rows
    )
    expected = total.item() / sum(len(row.completion_ids) for row in rows)
    loss, gradients = one_step(student, tmp_path / "a")
    assert loss == pytest.approx(expected, rel=1e-4)
    for cut in ({"per_forward": 1}, {"tokens": 30}, {"tokens": 1}):
        same_loss, same_gradients = one_step(student, tmp_path / str(cut), **cut)
        assert same_loss == pytest.approx(expected, rel=1e-4)
        assert gradients.keys() == same_gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(same_gradients[name], gradient, rtol=1e-3, atol=1e-5)


def test_a_sharded_device_with_fewer_forwards_makes_up_for_them_without_changing_anything(
    student, tmp_path, monkeypatch
):
    loss, gradients = one_step(student, tmp_path / "a", tokens=30)
    made = []
    real = DistillTrainer.compute_loss

    def count(self, model, inputs, **given):
        made.append(given["num_items_in_batch"])
        return real(self, model, inputs, **given)

    step = DistillTrainer.training_step

    def as_if_sharded(self, *given):
        self.is_fsdp_enabled = True
        loss = step(self, *given)
        self.is_fsdp_enabled = False
        return loss

    monkeypatch.setattr(DistillTrainer, "compute_loss", count)
    monkeypatch.setattr(DistillTrainer, "training_step", as_if_sharded)
    monkeypatch.setattr(DistillTrainer, "_over_devices", lambda self, counted, forwards: (counted, forwards + 2))
    same_loss, same_gradients = one_step(student, tmp_path / "b", tokens=30)
    assert made[:2] == [float("inf")] * 2
    assert len(made) >= 4
    assert same_loss == pytest.approx(loss, rel=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[name], gradient)


def cached_rows(teacher, rows, top_k):
    """What a cache of these rows would hold, from a teacher-forced pass of its own."""
    for row in rows:
        logits = teacher(input_ids=torch.tensor([row.input_ids])).logits[0, row.prompt_length - 1 : -1]
        top = logits.log_softmax(-1).topk(top_k)
        yield Rollout(row.id, row.prompt_ids, row.completion_ids, "", top.indices.int(), top.values.half())


def test_a_live_teacher_and_its_cache_teach_the_same(student, tiny_student, tmp_path):
    from tiny_models import write_tiny_llama

    folder = write_tiny_llama(tmp_path / "teacher", "", seed=5)
    (folder / "chat_template.jinja").write_text("none")
    teacher = load(Checkpoint(folder, "base"), device="cpu").model
    cached = CachedSignal(list(cached_rows(teacher, encoded_rows(6), top_k=9)))
    add_counted_forward(teacher)
    live = LiveSignal(teacher, top_k=9, vocabulary=800)
    objective = objective_of(DistillConfig(tail_top_m=9))
    loss, gradients = one_step(student, tmp_path / "a", signal=cached, objective=objective)
    same_loss, same_gradients = one_step(student, tmp_path / "b", signal=live, objective=objective)
    assert loss == pytest.approx(same_loss, rel=1e-3)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, same_gradients[name], rtol=2e-2, atol=1e-3)


def test_the_full_logits_are_never_computed(student, tmp_path, monkeypatch):
    model = load(student, device="cpu", trainable=True).model
    add_counted_forward(model)
    monkeypatch.setattr(module, "add_counted_forward", lambda model: None)
    counted = model.lm_head.forward

    def never_of_everything(hidden, then=None):
        assert then is not None
        return counted(hidden, then=then)

    monkeypatch.setattr(model.lm_head, "forward", never_of_everything)
    optimizer = replace(OPTIMIZER, max_steps=1)
    args = training_arguments(optimizer, tmp_path, rows=6, device="cpu", seed=1)
    rows = [(row.prompt_ids, row.completion_ids) for row in encoded_rows(6)]
    trainer = DistillTrainer(
        model, args, rows=rows, signal=LabelSignal(), objective=BASELINES["ce"], optimizer=optimizer, chunk=5
    )
    assert trainer.train().training_loss > 1


def test_backward_stops_below_the_trained_layers(student, tmp_path, monkeypatch):
    seen = []
    real = DistillTrainer.compute_loss

    def watch(self, model, inputs, **given):
        layers = model.get_base_model().model.layers
        hooks = [layer.register_forward_hook(note) for layer in layers]
        loss = real(self, model, inputs, **given)
        for hook in hooks:
            hook.remove()
        return loss

    def note(layer, inputs, output):
        seen.append((output[0] if isinstance(output, tuple) else output).requires_grad)

    monkeypatch.setattr(DistillTrainer, "compute_loss", watch)
    sft(student, tmp_path, max_steps=1)
    assert seen == [False, True] * 2


def test_the_order_of_rows_changes_nothing(student, tmp_path):
    rows = [(row.prompt_ids, row.completion_ids) for row in encoded_rows(6)]
    first = one_step(student, tmp_path / "a", rows=rows)[0]
    second = one_step(student, tmp_path / "b", rows=list(reversed(rows)), per_forward=2)[0]
    assert first == pytest.approx(second, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [LORA, FULL], ids=["lora", "full"])
def test_a_run_cut_short_ends_as_if_it_had_not_been(student, tmp_path, tuning, monkeypatch):
    whole = sft(student, tmp_path / "whole", tuning=tuning)
    cut = tmp_path / "cut"
    real = DistillTrainer.compute_loss

    def dies_in_step_four(self, *args, **given):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **given)

    monkeypatch.setattr(DistillTrainer, "compute_loss", dies_in_step_four)
    with pytest.raises(KeyboardInterrupt):
        sft(student, cut, tuning=tuning)
    monkeypatch.undo()
    # A checkpoint that was cut while it was being written must not be taken for a whole one.
    shutil.copytree(cut / "trainer" / "checkpoint-2", cut / "trainer" / "checkpoint-3")
    (cut / "trainer" / "checkpoint-3" / "trainer_state.json").write_text('{"global_st')
    resumed = sft(student, cut, tuning=tuning)
    assert losses(cut) == losses(tmp_path / "whole")
    expected = weights(whole)
    for name, tensor in weights(resumed).items():
        torch.testing.assert_close(tensor, expected[name])


class Clock:
    """Ten seconds pass between two looks."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        self.seconds += 10.0
        return self.seconds


@pytest.fixture
def ten_seconds_a_step(monkeypatch):
    monkeypatch.setattr(module, "TimeBudget", lambda *given, **named: TimeBudget(*given, **named, clock=Clock()))


def rates(out):
    return [json.loads(line)["lr"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_stage_stops_when_its_minutes_are_spent_with_its_learning_rate_decayed(student, tmp_path, ten_seconds_a_step):
    checkpoint = sft(student, tmp_path, max_steps=100, minutes=1.0)
    assert load(checkpoint, device="cpu").model.peft_config["default"].r == 4
    # The time for learning begins behind the first step's ten seconds; every later step takes a fifth of the rest.
    cosine = [0.5 * (1 + math.cos(math.pi * share)) for share in (0.0, 0.01, 0.2, 0.4, 0.6, 0.8)]
    assert rates(tmp_path) == pytest.approx([1e-3 * share for share in cosine], abs=1e-9)
    assert newest_checkpoint(tmp_path).name == "checkpoint-6"


def test_steps_that_end_before_the_minutes_decide_the_schedule(student, tmp_path, ten_seconds_a_step):
    sft(student, tmp_path / "plain", max_steps=3)
    sft(student, tmp_path / "timed", max_steps=3, minutes=60.0)
    assert rates(tmp_path / "timed") == rates(tmp_path / "plain")


@pytest.mark.slow
def test_a_resumed_stage_counts_the_minutes_it_has_spent(student, tmp_path, monkeypatch, ten_seconds_a_step):
    whole = sft(student, tmp_path / "whole", max_steps=100, minutes=1.0)
    cut = tmp_path / "cut"
    real = DistillTrainer.compute_loss

    def dies_in_step_four(self, *args, **given):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **given)

    with monkeypatch.context() as patch:
        patch.setattr(DistillTrainer, "compute_loss", dies_in_step_four)
        with pytest.raises(KeyboardInterrupt):
            sft(student, cut, max_steps=100, minutes=1.0)
    resumed = sft(student, cut, max_steps=100, minutes=1.0)
    assert rates(cut) == rates(tmp_path / "whole")
    monkeypatch.setattr(DistillTrainer, "compute_loss", None)
    again = sft(student, cut, max_steps=100, minutes=1.0)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], tensor)
        assert torch.equal(weights(again)[name], weights(resumed)[name])


def test_a_finished_run_only_saves_again(student, tmp_path, monkeypatch):
    first = weights(sft(student, tmp_path))
    monkeypatch.setattr(DistillTrainer, "compute_loss", None)
    again = weights(sft(student, tmp_path))
    for name, tensor in again.items():
        assert torch.equal(tensor, first[name])


@pytest.mark.parametrize(
    ("precision", "device", "native", "expected"),
    [
        ("auto", "cuda", {}, True),
        ("auto", "cpu", {}, False),
        ("auto", "cpu", {"avx512_bf16": True}, True),
        ("auto", "cpu", {"amx_bf16": True}, True),
        ("float32", "cuda", {}, False),
        ("bfloat16", "cpu", {}, True),
    ],
)
def test_bfloat16_is_used_as_asked_or_where_it_is_native(precision, device, native, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: native, raising=False)
    assert training.uses_bfloat16(precision, device) is expected


def test_bfloat16_on_a_cpu_rounds_the_products_and_keeps_the_weights(student, tmp_path):
    exact = sft(student, tmp_path / "exact", max_steps=1) and losses(tmp_path / "exact")[0]
    checkpoint = sft(student, tmp_path / "rounded", max_steps=1, precision="bfloat16")
    rounded = losses(tmp_path / "rounded")[0]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=1e-2)
    assert {tensor.dtype for tensor in weights(checkpoint).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ('{"global_step": 7, "max_steps": 9}', True),
        ('{"global_step": 6, "max_steps": 9}', False),
        ('{"global', False),
        (None, False),
    ],
)
def test_only_a_checkpoint_whose_state_names_its_step_is_whole(tmp_path, state, found):
    folder = tmp_path / "trainer" / "checkpoint-7"
    folder.mkdir(parents=True)
    if state is not None:
        (folder / "trainer_state.json").write_text(state)
    assert newest_checkpoint(tmp_path) == (folder if found else None)


def test_an_adapter_goes_on_as_the_same_adapter(student, tmp_path):
    first = sft(student, tmp_path / "first", max_steps=1)
    second = sft(first, tmp_path / "second", max_steps=1)
    assert second.base == student.folder
    assert weights(first).keys() == weights(second).keys()
    assert any(not torch.equal(tensor, weights(first)[name]) for name, tensor in weights(second).items())
    with pytest.raises(TrainingError, match="must be 'lora'"):
        sft(first, tmp_path / "third", tuning=FULL)


def test_trained_tokens_learn_in_embedding_and_head(tiny_qwen2, tmp_path):
    student = Checkpoint(tiny_qwen2, "base")
    before = load(student, device="cpu")
    tags = [before.tokenizer.convert_tokens_to_ids(tag) for tag in ("<tool_call>", "</tool_call>")]
    rows = [EncodedExample("a", (5, 6, 7, tags[0], 8, tags[1]), 3)] * 6
    tuning = replace(LORA, train_tokens=("<tool_call>", "</tool_call>"))
    after = load(sft(student, tmp_path, tuning=tuning, rows=rows, lr=1e-2, max_steps=8), device="cpu")
    ids = torch.tensor([rows[0].input_ids])
    costs = [
        torch.nn.functional.cross_entropy(loaded.model(input_ids=ids).logits[0, 2:-1], ids[0, 3:]).item()
        for loaded in (before, after)
    ]
    assert losses(tmp_path)[0] == pytest.approx(costs[0], abs=1e-3)
    assert costs[1] < min(losses(tmp_path)) < costs[0]
    old, new = (loaded.model.get_output_embeddings().weight for loaded in (before, after))
    assert (old - new).abs().sum(1).nonzero()[:, 0].tolist() == sorted(tags)


def test_weights_that_are_lost_stop_the_run_before_they_are_saved(student, tmp_path):
    with pytest.raises(TrainingError, match=r"^warmup: step \d: .*not finite; lower its lr"):
        sft(student, tmp_path, lr=1e30, max_steps=6, save_every=1)
    assert all(map(math.isfinite, losses(tmp_path)))
    assert not (tmp_path / "adapter").exists()
    for checkpoint in (tmp_path / "trainer").glob("checkpoint-*"):
        assert all(weight.isfinite().all() for weight in load_file(checkpoint / "adapter_model.safetensors").values())


def test_no_rows_are_refused(student, tmp_path):
    with pytest.raises(TrainingError, match="warmup: there is no row"):
        run_sft(OPTIMIZER, LORA, student, [], tmp_path, stage="warmup", device="cpu", seed=1)


# ---------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("rows_per_step", "rows_per_forward", "devices", "expected"),
    [(128, 8, 1, (8, 16)), (128, 8, 4, (8, 4)), (6, 4, 1, (3, 2)), (7, 4, 1, (1, 7)), (2, 8, 2, (1, 1))],
)
def test_a_step_has_exactly_its_rows(rows_per_step, rows_per_forward, devices, expected, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(devices))
    assert rows_per_device(rows_per_step, rows_per_forward, what="rows") == expected


def test_devices_that_cannot_share_a_step_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(TrainingError, match=r"optimizer.rows_per_step is 6|rows is 128, which 3 processes"):
        training.rows_per_device(128, 8, what="rows")


def test_the_key_of_the_recipe_is_named_whose_rows_devices_cannot_share(student, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=r"^adapt\.warmup\.rows_per_step is 5, which 2 processes"):
        sft(student, tmp_path, rows_per_step=5)


@pytest.mark.parametrize(("bfloat16", "products"), [(True, torch.bfloat16), (False, None)])
def test_sharded_sums_are_float32(bfloat16, products):
    plugin = SimpleNamespace(fsdp_version=2, activation_checkpointing=False)
    training.shard_exactly(plugin, bfloat16=bfloat16)
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (products, torch.float32, None)


@pytest.mark.parametrize(
    ("version", "checkpointing", "message"),
    [(1, False, "set fsdp_version: 2"), (2, True, "fsdp_activation_checkpointing: false")],
)
def test_sharding_that_would_go_wrong_is_refused(version, checkpointing, message):
    plugin = SimpleNamespace(fsdp_version=version, activation_checkpointing=checkpointing)
    with pytest.raises(TrainingError, match=message):
        training.shard_exactly(plugin, bfloat16=True)


# -------------------------------------------------------------------------------------------------------------- ckd


@pytest.fixture(scope="module")
def cache(student, tmp_path_factory):
    """A cache of this very student's own words."""
    from star_edge.contracts import Example
    from star_edge.data.chat import ChatCodec

    loaded = load(student, device="cpu")
    chatty = replace(loaded, stop_token_ids=tuple(range(0, 800, 3)))
    config = TeacherCacheConfig(rollouts=4, max_new_tokens=6, top_k=5, rows_per_forward=8)
    fingerprint = CacheFingerprint.of(
        student,
        label="tiny",
        revision=None,
        tokenizer=tokenizer_fingerprint(student.folder),
        template=loaded.template,
        config=config,
    )
    examples = [
        Example(str(n), "test", ({"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": "x"}), ())
        for n in range(4)
    ]
    codec = ChatCodec(loaded.tokenizer, loaded.template)
    folder = tmp_path_factory.mktemp("cache")
    return build(lambda: chatty, codec, examples, config, folder, fingerprint=fingerprint, seed=2)


@pytest.mark.parametrize("objective", ["ce", "fkl", "rkl", "akl", "ckd"])
def test_every_objective_distils_a_cache(student, cache, tmp_path, objective):
    optimizer = replace(OPTIMIZER, rows_per_step=12, rows_per_forward=4, max_steps=2)
    config = DistillConfig(LORA, optimizer, objective, tail_top_m=10, chunk=16)
    checkpoint = run_ckd(config, student, cache, tmp_path, device="cpu", seed=1)
    assert checkpoint == Checkpoint(tmp_path / "adapter", "ckd", student.folder)
    model = load(student, device="cpu").model
    total = 0.0
    for row in open_cache(cache.folder).rows:
        logits = model(input_ids=torch.tensor([[*row.prompt_ids, *row.completion_ids]])).logits
        ids, logprobs = row.topk_ids, row.topk_logprobs
        if objective == "ce":
            ids, logprobs = torch.tensor(row.completion_ids)[:, None], torch.zeros(len(ids), 1)
        total += objective_sum(objective_of(config), logits[0, len(row.prompt_ids) - 1 : -1], ids, logprobs).item()
    assert cache.rows == 12
    assert losses(tmp_path)[0] == pytest.approx(total / cache.positions, abs=2e-4)


def test_a_cache_of_another_template_is_refused_before_step_one(student, cache, tmp_path):
    folder = shutil.copytree(student.folder, tmp_path / "student")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(TeacherCacheError, match="another chat template"):
        run_ckd(DistillConfig(), Checkpoint(folder, "base"), cache, tmp_path / "out", device="cpu", seed=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_live_teacher_trains_as_its_cache_does(student, cache, tmp_path):
    teacher = load(student, device="cpu").model
    add_counted_forward(teacher)
    asked = []
    live = LiveSignal(teacher, top_k=5, vocabulary=800)

    class Listening:
        def for_batch(self, batch):
            asked.append(len(batch["rows"]))
            return live.for_batch(batch)

    optimizer = replace(OPTIMIZER, rows_per_step=12, rows_per_forward=4, max_steps=2)
    config = DistillConfig(LORA, optimizer, "ckd", tail_top_m=10, chunk=16)
    run_ckd(config, student, cache, tmp_path / "cached", device="cpu", seed=1)
    checkpoint = run_ckd(config, student, cache, tmp_path / "live", device="cpu", seed=1, signal=Listening())
    assert asked == [4] * 6
    assert losses(tmp_path / "live") == pytest.approx(losses(tmp_path / "cached"), abs=1e-3)
    assert load(checkpoint, device="cpu").model.peft_config["default"].r == 4
