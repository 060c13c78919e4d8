"""What a recipe says: one frozen dataclass a stage, resolved into `Recipe`.

Behind its first paragraph a docstring has one entry a field: docs/recipe-keys.md is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from star_edge.contracts.data_configs import DataConfig
from star_edge.contracts.results import EvaluatedCheckpoint

Objective = Literal["ce", "fkl", "rkl", "akl", "ckd"]

RewardKind = Literal["star", "typed", "binary"]

RowKind = Literal["single", "multiple", "parallel", "irrelevance", "ask_missing", "plain", "summarise"]
"""What a row's answer is (docs/data.md)."""

Precision = Literal["auto", "float32", "bfloat16"]

GgufQuantization = Literal["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0"]

OnnxQuantization = Literal["fp32", "int8"]

Compile = Literal["auto", "off"]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Where a model comes from.

    source: hub id, folder, `.gguf` file, or `package:NAME` for the one GGUF file inside an installed Python package.
    revision: commit or tag of a hub id; a hub id without it is refused.
    keep_layers: number of transformer layers kept when the model is depth-pruned; null keeps all.
    chat_template: the model's own, our Hermes one, or for `auto` the one of these that shows the tools. `student` is
        for a teacher alone: it takes the student's, where two models of a family differ in a character of it.
    plain_text_tokens: added tokens to be read and written as ordinary text, for a model that never learnt them.
    """

    source: str
    revision: str | None = None
    keep_layers: int | None = None
    chat_template: Literal["auto", "model", "hermes", "student"] = "auto"
    plain_text_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TuningConfig:
    """Which weights learn: all of them, or LoRA on the last layers (backward stops below them).

    method: `lora` trains low-rank additions, `full` the weights themselves.
    rank: rank of LoRA's additions.
    alpha: LoRA's additions are scaled by alpha / rank.
    last_layers: layers that learn, counted from the end; null for all.
    modules: linear layers of a decoder layer that LoRA adds to.
    train_tokens: tokens whose rows of the embedding learn beside LoRA; backward then runs through the whole model.
    """

    method: Literal["lora", "full"] = "lora"
    rank: int = 16
    alpha: int = 32
    last_layers: int | None = None
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    train_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """Settings of a supervised training.

    lr: highest learning rate; it rises to it, then falls to zero.
    weight_decay: weight decay of AdamW.
    warmup_share: share of the steps in which the learning rate rises.
    rows_per_step: rows of one optimizer step on all devices.
    rows_per_forward: rows that go through the model together.
    tokens_per_forward: the most tokens that go through the model together, a prompt that rows share counted once; a
        longer row goes alone. When it is null, `rows_per_forward` limits the rows instead.
    epochs: passes over the rows.
    max_steps: steps, which decide instead of `epochs`; null leaves it to those.
    minutes: wall time after which training stops, its learning rate decayed by then; null for no limit.
    save_every: steps between the saves that a killed stage goes on from.
    precision: what products are computed in; weights and losses are float32. `auto` is bfloat16 where the hardware
        multiplies it natively (a GPU; a CPU with AVX512-BF16 or AMX, where it saves a third of the time), else
        float32.
    compile: `auto` compiles the decoder layers and the loss on a GPU: the first step waits for it, all others are
        faster and need less memory. `'off'` wants its quotes: YAML reads off as false.
    """

    lr: float = 3e-6
    weight_decay: float = 1e-4
    warmup_share: float = 0.1
    rows_per_step: int = 128
    rows_per_forward: int = 8
    tokens_per_forward: int | None = None
    epochs: float = 1.0
    max_steps: int | None = None
    minutes: float | None = None
    save_every: int = 50
    precision: Precision = "auto"
    compile: Compile = "off"


# Between the means of a group that is all wrong and of one that is all right: typed pays -1 for a wrong decision, so a
# group of many of them is below zero and still has much to teach.
GROUP_LIMITS: Mapping[RewardKind, tuple[float, float]] = {
    "star": (0.01, 0.99),
    "binary": (0.01, 0.99),
    "typed": (-0.99, 0.99),
}


@dataclass(frozen=True, slots=True)
class SimRlConfig:
    """Similarity-guided RL as in STAR: GRPO with dynamic filtering of groups.

    steps: optimizer steps; 0 leaves the stage out.
    passes: passes over the training rows, which decide instead of `steps`; null leaves it to those.
    minutes: wall time of training after which the stage stops; null trains all its steps.
    prompts_per_step: prompts of one optimizer step on all devices, each with its group of completions.
    rollouts: completions of a prompt, which are compared with each other.
    lr: learning rate, the same for every step.
    weight_decay: weight decay of AdamW.
    beta: weight of the KL term that holds the policy near the model as it came; 0 leaves the term out.
    temperature: temperature of sampling.
    max_new_tokens: longest completion.
    rows_per_forward: completions that go through the model together in an update.
    tokens_per_forward: most tokens of a forward of the update, prompts counted once. Null fills forwards by
        `rows_per_forward`; a step never takes more forwards than those would be.
    reward: what a completion earns; docs/rewards.md has the definitions.
    group_reward_min, group_reward_max: groups with a mean reward outside are drawn anew; null leaves them to the
        reward, 0.01 and 0.99 as published for star and binary, -0.99 and 0.99 for typed (a wrong decision is -1).
    max_resamples: rounds in which groups outside are drawn anew; then the step takes what there is.
    use_vllm: vLLM samples; otherwise the trainer does.
    vllm_memory_share: share of the GPU's memory that vLLM takes beside the trainer when `use_vllm` is true.
    vllm_compile: vLLM beside the trainer compiles the model when it starts, as it does by itself; false starts it
        sooner, with graphs of decoding alone.
    vllm_server: `host:port` of a vLLM server on other GPUs, which samples instead.
    save_every: steps between the saves that a killed stage goes on from.
    precision: as in an optimizer section, for losses; sampling on a CPU stays float32.
    """

    steps: int = 100
    passes: float | None = None
    minutes: float | None = None
    prompts_per_step: int = 128
    rollouts: int = 8
    lr: float = 3e-7
    weight_decay: float = 0.0
    beta: float = 1e-3
    temperature: float = 1.0
    max_new_tokens: int = 512
    rows_per_forward: int = 8
    tokens_per_forward: int | None = None
    reward: RewardKind = "star"
    group_reward_min: float | None = None
    group_reward_max: float | None = None
    max_resamples: int = 4
    use_vllm: bool = False
    vllm_memory_share: float = 0.3
    vllm_compile: bool = True
    vllm_server: str | None = None
    save_every: int = 50
    precision: Precision = "auto"

    def group_limits(self) -> tuple[float, float]:
        """The mean rewards between which a group teaches: those that are set, else the reward's own."""
        low, high = GROUP_LIMITS[self.reward]
        return (
            low if self.group_reward_min is None else self.group_reward_min,
            high if self.group_reward_max is None else self.group_reward_max,
        )


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """A slice of the held-out rows scored while a stage trains: the best weights are kept, a collapse stops the stage.

    every_steps: steps from one score to the next; null leaves supervised stages unwatched, and wants `every_rl_steps`.
    every_rl_steps: the same in Sim-RL, whose steps take longer; null for `every_steps`.
    rows: held-out rows that are scored, always the same.
    max_new_tokens: longest answer; a longer one is cut, and wrong.
    rows_per_forward: rows that are answered together.
    max_malformed: largest share of malformed answers; null switches the limit off.
    max_drop: most the score may fall below the best, as a share; null switches the limit off.
    max_reward_drop: in Sim-RL, most the mean reward of five steps may fall below the best five before; null switches
        the limit off.
    min_entropy: in Sim-RL, least entropy of the policy in nats a token; null switches the limit off.
    """

    every_steps: int | None = 20
    every_rl_steps: int | None = None
    rows: int = 128
    max_new_tokens: int = 256
    rows_per_forward: int = 64
    max_malformed: float | None = 0.5
    max_drop: float | None = 0.2
    max_reward_drop: float | None = 0.5
    min_entropy: float | None = None


@dataclass(frozen=True, slots=True)
class AdaptConfig:
    """Teacher adaptation: an optional supervised warm-up on labels, then Sim-RL.

    tuning: which of the teacher's weights learn, in both of them.
    warmup: settings of the warm-up; null leaves it out.
    warmup_rows: training rows that the warm-up takes, from the front; null takes all.
    sim_rl: settings of Sim-RL.
    skip_warmup: Sim-RL leaves out the rows that the warm-up takes, of which `warmup_rows` then says how many.
    sources: Sim-RL takes rows of these sources alone, as the data table names them; [] takes all.
    kinds: Sim-RL takes rows of these kinds alone; [] takes all.
    """

    tuning: TuningConfig = field(default_factory=TuningConfig)
    warmup: OptimizerConfig | None = None
    warmup_rows: int | None = None
    sim_rl: SimRlConfig = field(default_factory=SimRlConfig)
    skip_warmup: bool = False
    sources: tuple[str, ...] = ()
    kinds: tuple[RowKind, ...] = ()


@dataclass(frozen=True, slots=True)
class TeacherCacheConfig:
    """Rollouts per prompt and the top-k log-probabilities kept of each completion position.

    prompts: most prompts that the teacher is asked, with and without a label; null asks all.
    labels: further training rows that the teacher does not answer: it reads their own answers, and the student learns
        its distribution along those. They are taken as they are; `least_reward` is for completions.
    rollouts: completions of a prompt.
    temperature: temperature of sampling.
    max_new_tokens: longest completion; one that does not end by itself within is not kept.
    top_k: tokens whose log-probabilities are kept of a position.
    reward: what `least_reward` is measured by.
    least_reward: completions of prompts with a label that earn less under `reward` are not kept; null keeps them.
    drop_unsaid: keep no completion that gives an optional parameter a value that nobody said, unless the label does.
    rows_per_forward: rows that go through the teacher together.
    rows_per_shard: rows of a file, and completions that vLLM is asked for at a time: each call waits for its longest,
        so a few thousand are faster, and more is done again after a kill.
    use_vllm: vLLM draws the completions, and the log-probabilities are its own, of logits rounded to bfloat16.
    vllm_memory_share: share of the GPU's memory that vLLM takes when `use_vllm` is true.
    """

    prompts: int | None = None
    labels: int = 0
    rollouts: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 512
    top_k: int = 100
    reward: RewardKind = "typed"
    least_reward: float | None = None
    drop_unsaid: bool = False
    rows_per_forward: int = 16
    rows_per_shard: int = 256
    use_vllm: bool = False
    vllm_memory_share: float = 0.5

    def deciding(self) -> TeacherCacheConfig:
        """What decides a cache's content: the same, with the room that vLLM takes for it at the default."""
        return replace(self, vllm_memory_share=0.5)


@dataclass(frozen=True, slots=True)
class DistillConfig:
    """The student learns the teacher's cache.

    tuning: which of the student's weights learn.
    optimizer: settings of the training.
    objective: `ckd` is top-k forward KL with a charge for the tail; `ce`, `fkl`, `rkl` and `akl` are baselines.
    tail_weight: of `ckd`, the price of a unit of student mass outside the teacher's tokens.
    tail_top_m: of `ckd`, how many of the student's most likely tokens are looked at for such mass.
    chunk: positions whose logits are in memory at once; fewer need less of it.
    """

    tuning: TuningConfig = field(default_factory=TuningConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: Objective = "ckd"
    tail_weight: float = 10.0
    tail_top_m: int = 100
    chunk: int = 1024


@dataclass(frozen=True, slots=True)
class StudentRlConfig:
    """Sim-RL on the student, after distillation.

    tuning: which of the student's weights learn; LoRA goes on with the adapter that distillation left.
    sim_rl: settings of Sim-RL.
    skip_distilled: leave out the rows whose prompts `cache` asks, or whose answers it reads.
    sources: rows of these sources alone, as the data table names them; [] takes all.
    kinds: rows of these kinds alone; [] takes all.
    """

    tuning: TuningConfig = field(default_factory=TuningConfig)
    sim_rl: SimRlConfig = field(default_factory=SimRlConfig)
    skip_distilled: bool = False
    sources: tuple[str, ...] = ()
    kinds: tuple[RowKind, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What the student and other checkpoints of a run are scored on, before anything is exported.

    suites: "bfcl", "heldout" (the run's own held-out rows), or JSONL files of rows.
    checkpoints: what is scored, named by the stage that left it; `base` is the untrained student, `adapt` the teacher.
    backend: what answers; `auto` is vLLM where it is installed and there is a GPU, else transformers.
    limit: most cases of a category; null takes all.
    max_new_tokens: longest answer.
    rows_per_forward: rows that transformers answers together; vLLM makes its own batches.
    vllm_memory_share: share of the GPU's memory that vLLM takes.
    """

    suites: tuple[str, ...] = ("bfcl",)
    checkpoints: tuple[EvaluatedCheckpoint, ...] = ("merge",)
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    limit: int | None = None
    max_new_tokens: int = 512
    rows_per_forward: int = 16
    vllm_memory_share: float = 0.9

    @property
    def labels(self) -> tuple[str, ...]:
        """A short name a suite: a file's without its extensions."""
        return tuple(Path(name).name.removesuffix(".gz").removesuffix(".jsonl") for name in self.suites)


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """The files that are written, each checked against torch.

    gguf: quantisations of GGUF files; an empty list writes none.
    onnx: quantisations of ONNX files; an empty list writes none.
    parity_cases: held-out rows whose answers by a file are compared with torch's.
    """

    gguf: tuple[GgufQuantization, ...] = ("F16", "Q8_0", "Q4_K_M")
    onnx: tuple[OnnxQuantization, ...] = ("fp32", "int8")
    parity_cases: int = 8


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Limits that decide the exit code; null switches one off.

    exact_call_drop: most the exact-call rate of a file may fall below the merged checkpoint's, in points.
    lossless_drop: the same for F16, Q8_0 and fp32, which should lose nothing; `exact_call_drop` is not for them.
    exact_call_gain: least the merged checkpoint's exact-call rate must lie above the untrained student's, in points.
    size_mib: largest size of a file, in MiB.
    ttft_ms: slowest p95 time to first token, in milliseconds.
    decode_tok_s: slowest p50 decode speed, in tokens a second.
    """

    exact_call_drop: float | None = 10.0
    lossless_drop: float | None = 2.0
    exact_call_gain: float | None = None
    size_mib: float | None = None
    ttft_ms: float | None = None
    decode_tok_s: float | None = None


@dataclass(frozen=True, slots=True)
class ValidateConfig:
    """Accuracy and latency of every checkpoint and file.

    cases: held-out rows that are asked, from the front.
    threads: CPU threads of a file's runtime.
    max_new_tokens: longest answer.
    rows_per_forward: rows that torch answers together.
    gates: limits that decide the exit code.
    """

    cases: int = 60
    threads: int = 1
    max_new_tokens: int = 128
    rows_per_forward: int = 16
    gates: GateConfig = field(default_factory=GateConfig)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole run, resolved.

    name: what the run is called; its folder is `runs/NAME`.
    teacher: the model that is adapted and then sampled.
    student: the model that learns.
    data: the rows to learn from and to measure on.
    seed: what every draw starts from.
    device: `auto` is the GPU where there is one.
    adapt: how the teacher learns the task first.
    cache: what the teacher is asked, and what is kept of its answers.
    distill: the student learns what was kept.
    sim_rl: Sim-RL on the student, after that.
    watch: scores while a stage trains; null for none.
    evaluate: scores of checkpoints; null for none.
    export: the files that are written.
    validate: how the files are measured, and what they must reach.
    """

    name: str
    teacher: ModelConfig
    student: ModelConfig
    data: DataConfig
    seed: int = 17
    device: Literal["auto", "cpu", "cuda"] = "auto"
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    cache: TeacherCacheConfig = field(default_factory=TeacherCacheConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    sim_rl: StudentRlConfig = field(default_factory=StudentRlConfig)
    watch: WatchConfig | None = None
    evaluate: EvaluateConfig | None = None
    export: ExportConfig = field(default_factory=ExportConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)
