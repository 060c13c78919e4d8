import importlib
import json
import os
from dataclasses import replace

import pytest
import torch
from fake_vllm import install
from safetensors.torch import load_file

from star_edge.contracts import Checkpoint, Example, SimRlConfig, TuningConfig, WatchConfig
from star_edge.data.chat import ChatCodec
from star_edge.distill import watch as watching
from star_edge.distill.watch import Watch
from star_edge.errors import RuntimeMissing, TrainingError
from star_edge.evaluate.scores import judge
from star_edge.models.load import load
from star_edge.models.vllm_engine import COMPILATION
from star_edge.progress import Progress, or_quiet

pytest.importorskip("trl", reason="trl is not installed: pip install 'star-edge[train]'")
grpo = importlib.import_module("star_edge.rl.grpo")
module = importlib.import_module("star_edge.rl.trainer")

TOOL = {
    "name": "dim",
    "description": "",
    "parameters": {"type": "object", "properties": {"level": {"type": "integer"}}},
}
CONFIG = SimRlConfig(
    steps=2,
    prompts_per_step=3,
    rollouts=4,
    lr=1e-2,
    max_new_tokens=5,
    rows_per_forward=4,
    save_every=1,
    beta=0.1,
    precision="float32",
)
LORA = TuningConfig(rank=4, alpha=8, last_layers=1)
FULL = TuningConfig(method="full")


@pytest.fixture(autouse=True)
def master_port(monkeypatch):
    """Ports that an engine beside the trainer would be told, if it was left to us: 4711, 4712, ..."""
    ports = iter(range(4711, 4800))
    monkeypatch.setattr(module, "get_free_port", lambda: next(ports))
    monkeypatch.setenv("MASTER_PORT", "")  # so that it is put back even where it was not set
    monkeypatch.delenv("MASTER_PORT")


@pytest.fixture(scope="module")
def student(tiny_student):
    return Checkpoint(tiny_student, "base")


@pytest.fixture(scope="module")
def examples():
    return [
        Example(
            str(number),
            "test",
            (
                {"role": "user", "content": f"Dim to {number}" + ", please" * (number % 3)},
                {"role": "assistant", "content": "", "tool_calls": [{"name": "dim", "arguments": {"level": number}}]},
            ),
            (TOOL,),
        )
        for number in range(8)
    ]


@pytest.fixture
def rewards(monkeypatch):
    """The reward of a random model is flat; let the length of what it says be the reward instead."""

    def by_length(prompts, completions, target, tools):
        assert [json.loads(row)["tool_calls"][0]["name"] for row in target] == ["dim"] * len(prompts)
        assert [json.loads(row) for row in tools] == [[TOOL]] * len(prompts)
        return [len(text) % 8 / 8 for text in completions]

    monkeypatch.setattr(module, "trl_reward", lambda kind: by_length)


def run(policy, examples, out, *, tuning=LORA, progress=None, **changes):
    config = replace(CONFIG, **changes)
    return module.run_sim_rl(
        config, tuning, policy, examples, out, stage="sim-rl", device="cpu", seed=1, progress=progress
    )


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def weights(checkpoint):
    (file,) = checkpoint.folder.glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize(("tuning", "base"), [(LORA, True), (FULL, False)], ids=["lora", "full"])
def test_two_steps_change_the_policy_and_log_what_happened(student, examples, tmp_path, rewards, tuning, base):
    checkpoint = run(student, examples, tmp_path, tuning=tuning)
    assert checkpoint.base == (student.folder if base else None)
    assert checkpoint.stage == "sim-rl"
    steps = log(tmp_path)
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert 0 < step["reward"] < 1
        assert 0 < step["groups_kept"] <= 1
        assert step["malformed"] == 0
        assert step["completion_length"] == 5
        assert step["entropy"] > 1
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert steps[1]["kl"] > 1e-6
    loaded = load(checkpoint, device="cpu")
    if not base:
        assert (checkpoint.folder / "tokenizer.json").read_bytes() == (student.folder / "tokenizer.json").read_bytes()
        assert not torch.equal(
            loaded.model.model.embed_tokens.weight, load(student, device="cpu").model.model.embed_tokens.weight
        )


@pytest.mark.slow
def test_bfloat16_on_a_cpu_changes_losses_but_not_what_is_sampled(student, examples, tmp_path, rewards):
    run(student, examples, tmp_path / "exact", steps=1)
    run(student, examples, tmp_path / "rounded", steps=1, precision="bfloat16")
    exact, rounded = log(tmp_path / "exact")[0], log(tmp_path / "rounded")[0]
    assert exact["reward"] == rounded["reward"]
    assert exact["entropy"] != rounded["entropy"]
    assert exact["entropy"] == pytest.approx(rounded["entropy"], rel=1e-2)


def make_trainer(policy, examples, out, *, tuning=LORA, **changes):
    config = replace(CONFIG, **changes)
    loaded = module.load_trainable(policy, tuning, seed=1)
    codec = ChatCodec(loaded.tokenizer, loaded.template)
    return module.SimRlTrainer(
        loaded,
        config,
        progress=Progress(quiet=True),
        args=module.grpo_arguments(config, out, rows=len(examples), device="cpu", seed=1),
        reward_funcs=[module.trl_reward("star")],
        train_dataset=module.Dataset.from_list([module.prompt_row(codec, example) for example in examples]),
    )


def test_prompt_ids_are_the_codecs(student, examples, tmp_path):
    trainer = make_trainer(student, examples, tmp_path)
    codec = ChatCodec(trainer.processing_class, load(student, device="cpu").template)
    prompts = [row["prompt"] for row in trainer.train_dataset]
    assert trainer._tokenize_prompts(prompts)[0] == [codec.prompt_ids(example) for example in examples]


@pytest.mark.parametrize(
    ("budget", "batch_size"), [(None, None), (None, 2), (5, 2)], ids=["at once", "by rows", "by tokens"]
)
def test_log_probabilities_equal_those_of_rows_computed_alone(student, examples, tmp_path, budget, batch_size):
    trainer = make_trainer(student, examples, tmp_path, temperature=0.5, tokens_per_forward=budget)
    prompts = [[5, 6, 7], [5, 6, 7], [9, 8]]
    completions = [[1, 2], [3], [4, 5, 6]]
    ids = torch.tensor([[5, 6, 7, 1, 2, 0], [5, 6, 7, 3, 0, 0], [0, 9, 8, 4, 5, 6]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]])
    ask = (trainer.model, ids, mask, 3, batch_size)
    logprobs, entropies, _ = trainer._get_per_token_logps_and_entropies(*ask, compute_entropy=True)
    assert trainer._get_per_token_logps_and_entropies(*ask)[1] is None
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        logits = trainer.model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / 0.5
        distribution = torch.distributions.Categorical(logits=logits)
        count = len(completion)
        torch.testing.assert_close(
            logprobs[row, :count], distribution.log_prob(torch.tensor(completion)), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(entropies[row, :count], distribution.entropy(), rtol=1e-4, atol=1e-4)
        assert not logprobs[row, count:].any()


@pytest.mark.slow
def test_the_reference_of_an_adapter_is_that_adapter(student, examples, tmp_path, rewards):
    adapter = run(student, examples, tmp_path / "first", beta=0.0)
    steps = run(adapter, examples, tmp_path / "second") and log(tmp_path / "second")
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)  # against the bare base it would not be 0
    trainer = make_trainer(adapter, examples, tmp_path / "third")
    base = load(student, device="cpu").model
    ids = torch.tensor([[5, 6, 7, 8]])
    assert not torch.allclose(trainer.ref_model(input_ids=ids).logits, base(input_ids=ids).logits, atol=1e-3)
    torch.testing.assert_close(trainer.ref_model(input_ids=ids).logits, load(adapter, device="cpu").model(ids).logits)


def test_groups_that_cannot_teach_cost_no_update(student, examples, tmp_path, monkeypatch):
    """Prompts with an even number get one reward whatever is said: only the others may reach the model."""

    def by_prompt(prompts, completions, target, tools):
        numbers = [json.loads(row)["tool_calls"][0]["arguments"]["level"] for row in target]
        return [0.5 if number % 2 == 0 else place % 4 / 4 for place, number in enumerate(numbers)]

    monkeypatch.setattr(module, "trl_reward", lambda kind: by_prompt)
    seen = []
    real = module.SimRlTrainer.compute_loss

    def watch(self, model, inputs, **given):
        seen.extend(self.processing_class.batch_decode(inputs["prompt_ids"]))
        return real(self, model, inputs, **given)

    monkeypatch.setattr(module.SimRlTrainer, "compute_loss", watch)
    run(student, examples, tmp_path, steps=1)
    assert len(seen) == 12
    assert not any(f"Dim to {number}" in prompt for prompt in seen for number in (0, 2, 4, 6))
    assert log(tmp_path)[0]["groups_kept"] < 1
    assert log(tmp_path)[0]["sampling_rounds"] > 1


def test_a_short_batch_is_trained_on_and_said(student, examples, tmp_path, monkeypatch, capsys):
    def one_prompt_teaches(prompts, completions, target, tools):
        first = target[0]
        return [place % 4 / 4 if row == first else 1.0 for place, row in enumerate(target)]

    monkeypatch.setattr(module, "trl_reward", lambda kind: one_prompt_teaches)
    run(student, examples, tmp_path, steps=1, max_resamples=0, progress=Progress())
    assert "step 1: 1 of 3 groups can teach after 1 rounds of sampling" in capsys.readouterr().err
    assert log(tmp_path)[0]["grad_norm"] > 0


def test_nothing_to_learn_changes_nothing(student, examples, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "trl_reward", lambda kind: lambda **rows: [1.0] * len(rows["prompts"]))
    checkpoint = run(student, examples, tmp_path, tuning=FULL, steps=1, max_resamples=1, weight_decay=0.1)
    assert log(tmp_path)[0]["groups_kept"] == 0
    before = load_file(student.folder / "model.safetensors")
    for name, tensor in weights(checkpoint).items():
        assert torch.equal(tensor, before[name])


def test_every_row_weighs_the_same_however_the_step_is_split():
    batch = {
        "prompt_ids": torch.arange(5)[:, None],
        "loss": torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0]),
        "count": torch.tensor(7),
    }
    for parts in (1, 2, 5, 8):
        split = grpo.split_rows(batch, parts)
        assert len(split) == parts
        assert [part is None for part in split] == sorted((part is None for part in split), reverse=True)
        total = sum(part["loss"].mean() * part["weight"] / parts for part in split if part is not None)
        assert total.item() == pytest.approx(4.0)


def test_a_token_budget_fills_forwards_and_leaves_the_others_empty():
    ids = torch.tensor([[7, 7, 7, 7]] * 4 + [[0, 0, 0, 5]] * 2)
    batch = {
        "prompt_ids": ids,
        "prompt_mask": (ids != 0).long(),
        "completion_ids": torch.ones(6, 2).long(),
        "completion_mask": torch.tensor([[1, 1]] * 5 + [[1, 0]]),
        "loss": torch.arange(6.0),
    }
    split = grpo.split_rows(batch, 6, most_tokens=8)
    parts = [part["loss"].tolist() for part in split if part is not None]
    assert split[:3] == [None] * 3
    assert sorted(parts) == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]  # 4 + 2 * 2, 4 + 2 * 2 and 1 + 2 + 1 tokens
    total = sum(part["loss"].mean() * part["weight"] / 6 for part in split if part is not None)
    assert total.item() == pytest.approx(2.5)
    assert [len(part["loss"]) for part in grpo.split_rows(batch, 2, most_tokens=8)] == [3, 3]


@pytest.mark.slow
def test_a_step_filled_by_tokens_is_the_same_step(student, examples, tmp_path, rewards):
    by_rows = run(student, examples, tmp_path / "rows", tuning=FULL, steps=1)
    by_tokens = run(student, examples, tmp_path / "tokens", tuning=FULL, steps=1, tokens_per_forward=400)
    expected = weights(by_rows)
    for name, tensor in weights(by_tokens).items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-3, rtol=2e-3)
    for name in ("loss", "reward", "grad_norm"):
        assert log(tmp_path / "tokens")[0][name] == pytest.approx(log(tmp_path / "rows")[0][name], rel=1e-3, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [LORA, FULL], ids=["lora", "full"])
def test_a_run_cut_short_ends_as_if_it_had_not_been(student, examples, tmp_path, rewards, tuning, monkeypatch):
    whole = run(student, examples, tmp_path / "whole", tuning=tuning, steps=4)  # two epochs
    real = module.SimRlTrainer.compute_loss

    def dies_in_step_four(self, *args, **given):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return real(self, *args, **given)

    with monkeypatch.context() as patch:
        patch.setattr(module.SimRlTrainer, "compute_loss", dies_in_step_four)
        with pytest.raises(KeyboardInterrupt):
            run(student, examples, tmp_path / "cut", tuning=tuning, steps=4)
    resumed = run(student, examples, tmp_path / "cut", tuning=tuning, steps=4)
    assert [step["reward"] for step in log(tmp_path / "cut")] == [step["reward"] for step in log(tmp_path / "whole")]
    expected = weights(whole)
    for name, tensor in weights(resumed).items():
        torch.testing.assert_close(tensor, expected[name])


def test_the_order_of_prompts_depends_on_the_seed_and_the_epoch_alone():
    whole, late = (
        grpo.PromptOrder.like(grpo.RepeatSampler(range(9), mini_repeat_count=2, batch_size=3, repeat_count=2, seed=5))
        for _ in range(2)
    )
    epochs = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        epochs.append(list(whole))
    late.set_epoch(2)
    assert list(late) == epochs[2]
    assert all(sorted(set(epoch)) == list(range(9)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_forwards_are_as_full_as_the_fullest_process_allows():
    batch = {
        "prompt_ids": torch.tensor([[7, 7]] * 4 + [[8, 8]] * 2),
        "prompt_mask": torch.ones(6, 2).long(),
        "completion_ids": torch.ones(6, 2).long(),
        "completion_mask": torch.ones(6, 2).long(),
    }
    split = grpo.split_rows(batch, 6, most_tokens=10)
    assert [len(part["prompt_ids"]) for part in split if part is not None] == [2, 4]  # 2 + 2 * 2 and 2 + 4 * 2 tokens

    def longer_elsewhere(lengths):
        return lengths.clone().index_put_((torch.tensor([0, 1, 2, 3]), torch.tensor([1])), torch.tensor(4))

    split = grpo.split_rows(batch, 6, most_tokens=10, longest=longer_elsewhere)
    assert [len(part["prompt_ids"]) for part in split if part is not None] == [2, 2, 2]


def test_training_stops_when_its_minutes_are_spent(student, examples, tmp_path, rewards):
    run(student, examples, tmp_path, steps=50, minutes=1e-4)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_a_watched_policy_is_the_best_that_was_scored(student, examples, tmp_path, rewards, monkeypatch):
    scores = iter([0.0, 1.0, 0.5])
    monkeypatch.setattr(Watch, "_answered", lambda self: {"score": next(scores), "malformed": 0.0})
    config = WatchConfig(every_steps=1, max_drop=None)
    result = module.run_sim_rl(
        CONFIG, LORA, student, examples, tmp_path, stage="sim-rl", device="cpu", seed=1,
        watch=lambda loaded, out: Watch(config, examples, or_quiet(None), loaded, out),
    )  # fmt: skip
    kept = load_file(tmp_path / "watch-1.safetensors")
    adapter = load_file(result.folder / "adapter_model.safetensors")
    assert kept
    assert all(torch.equal(adapter[name.replace(".default", "")], weight) for name, weight in kept.items())
    last = load_file(tmp_path / "trainer" / "checkpoint-2" / "adapter_model.safetensors")
    assert any(not torch.equal(adapter[name], weight) for name, weight in last.items())


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [({}, 0, "no row to learn from"), ({"rollouts": 1}, 3, "a group needs at least 2 to compare")],
)
def test_impossible_runs_are_refused(student, examples, tmp_path, changes, rows, message):
    with pytest.raises(TrainingError, match=message):
        run(student, examples[:rows], tmp_path, **changes)


@pytest.mark.parametrize(("passes", "steps"), [(None, 2), (1.0, 3), (3.0, 8), (0.1, 1)])
def test_passes_over_the_rows_decide_the_steps(passes, steps, tmp_path):
    """Three prompts a step of eight rows: a pass is 2.67 steps."""
    config = replace(CONFIG, passes=passes)
    assert module.grpo_arguments(config, tmp_path, rows=8, device="cpu", seed=1).max_steps == steps


class FakeServer:
    """What TRL makes of a vLLM server: draws for everyone, weights sent before the first and after every step."""

    def __init__(self, **settings):
        self.settings, self.synced, self.closed = settings, 0, False
        self.generation_kwargs, self.asked = settings.get("generation_kwargs"), []
        self.vllm_client = self
        FakeServer.last = self

    def get_server_info(self):
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def close_communicator(self):
        self.closed = True

    def sync_weights(self):
        self.synced += 1

    def generate(self, prompts, num_generations, **_):
        self.asked.append((num_generations, self.generation_kwargs))
        ids = [[5 + place % num_generations] * (1 + place % 3) + [2] for place in range(len(prompts))]
        return prompts, ids, [[[-7.0] for _ in row] for row in ids], None


def test_a_vllm_server_samples_for_the_trainer(student, examples, tmp_path, rewards, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", FakeServer)
    run(student, examples, tmp_path, vllm_server="10.0.0.2:8001")
    server = FakeServer.last
    assert server.settings["mode"] == "server"
    assert (server.settings["server_host"], server.settings["server_port"]) == ("10.0.0.2", 8001)
    assert server.synced == 2
    assert server.closed
    assert [step["completion_length"] for step in log(tmp_path)] == [pytest.approx(3, abs=0.5)] * 2


@pytest.mark.parametrize("beside", [True, False], ids=["beside the trainer", "on a server"])
def test_a_watch_asks_the_vllm_beside_the_trainer(student, examples, tmp_path, rewards, monkeypatch, beside):
    """A server samples for all processes at once, so one that scores alone must not ask it."""
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", FakeServer)
    texts = []
    monkeypatch.setattr(watching, "judge", lambda example, text: texts.append(text) or judge(example, text))

    def watch(loaded, out):
        return Watch(WatchConfig(every_steps=1, max_new_tokens=7), examples, or_quiet(None), loaded, out)

    config = replace(CONFIG, use_vllm=True, vllm_server=None if beside else "10.0.0.2:8001")
    module.run_sim_rl(config, LORA, student, examples, tmp_path, stage="sim-rl", device="cpu", seed=1, watch=watch)
    server = FakeServer.last
    greedy = [given for copies, given in server.asked if copies == 1]
    assert [(given["temperature"], given["max_tokens"]) for given in greedy] == [(0.0, 7)] * (3 if beside else 0)
    assert server.generation_kwargs is server.settings.get("generation_kwargs")
    assert server.synced == (3 if beside else 2)  # once a step, and for the last score
    if beside:
        tokenizer = load(student, device="cpu").tokenizer
        assert texts == [tokenizer.decode([5] * (1 + place % 3)) for place in range(len(examples))] * 3


@pytest.mark.parametrize(
    ("settings", "compiles"),
    [
        ({"use_vllm": True}, True),
        ({"use_vllm": True, "vllm_compile": False}, False),
        ({"use_vllm": True, "vllm_server": "10.0.0.2:8001", "vllm_compile": False}, True),  # which has started already
    ],
)
def test_the_vllm_beside_the_trainer_compiles_nothing_when_told_so(
    student, examples, tmp_path, rewards, monkeypatch, settings, compiles
):
    class LLM:
        def __init__(self, **given):
            self.given = given

    class Engine(FakeServer):
        def __init__(self, **given):
            super().__init__(**given)
            made.append(LLM().given)

    made = []
    fake = install(monkeypatch, lambda *_: [3])
    monkeypatch.setattr(fake, "LLM", LLM)
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Engine)
    run(student, examples, tmp_path, **settings)
    assert made == [{} if compiles else {"compilation_config": COMPILATION}]
    assert LLM().given == {}


@pytest.mark.parametrize(("launchers", "told"), [(None, "4711"), ("29401", "29401")])
def test_an_engine_beside_the_trainer_has_a_port_of_its_own_unless_a_launcher_gave_one(
    student, examples, tmp_path, rewards, monkeypatch, launchers, told
):
    class Engine(FakeServer):
        def __init__(self, **given):
            super().__init__(**given)
            ports.append(os.environ.get("MASTER_PORT"))

    ports = []
    if launchers:
        monkeypatch.setenv("MASTER_PORT", launchers)
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", Engine)
    run(student, examples, tmp_path, use_vllm=True)
    assert ports == [told]


def test_a_server_that_does_not_answer_is_one_line(student, examples, tmp_path, monkeypatch):
    def unreachable(**settings):
        raise ConnectionRefusedError("no route")

    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", unreachable)
    with pytest.raises(TrainingError, match=r"^sim-rl: no vLLM server answers at host:1; start one"):
        run(student, examples, tmp_path, vllm_server="host:1")


def test_vllm_that_is_not_installed_is_named(student, examples, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(RuntimeMissing, match="needs the 'vllm' extra"):
        run(student, examples, tmp_path, vllm_server="host:1")


def test_the_key_of_the_recipe_is_named_whose_prompts_devices_cannot_share(student, examples, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=r"^sim_rl\.sim_rl\.prompts_per_step is 3, which 2 processes"):
        run(student, examples, tmp_path)


def test_sharded_weights_are_refused(student, examples, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match=r"^sim-rl: Sim-RL does not train sharded weights .* launch with torchrun"):
        run(student, examples, tmp_path)
