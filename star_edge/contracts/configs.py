"""What a recipe says: one frozen dataclass a stage, resolved into `Recipe`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from star_edge.contracts.results import EvaluatedCheckpoint

Objective = Literal["ce", "fkl", "rkl", "akl", "ckd"]


RewardKind = Literal["star", "typed", "binary"]


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
class SourceConfig:
    """One file of rows, or a synthetic request grammar.

    limit: rows taken from the front. cap: most rows taken, drawn by the seed.
    weight: share of a mix's rows against the other sources; an average source is 1.0, and null stands for the
    source's rows over those of an average source.
    """

    path: str | None = None
    synth: str | None = None
    limit: int | None = None
    cap: int | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class MixConfig:
    """How training rows are chosen from the sources, and what is done to them.

    rows: size of the mix. The shares of kinds are of these rows; null leaves a kind to the sources.
    near_miss_share: of the irrelevance rows; derived from requests of which only the needed tool is taken away.
    tool_pool: file of tools. distractor_share: of the rows, which get tools from it, up to `max_tools` in all.
    mask_share: of the rows, whose functions and parameters get random names.
    """

    rows: int
    irrelevance_share: float | None = None
    near_miss_share: float = 0.0
    ask_share: float | None = None
    parallel_share: float | None = None
    tool_pool: str | None = None
    distractor_share: float = 0.0
    max_tools: int = 8
    mask_share: float = 0.0


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which rows there are and which of them are trained on.

    folder: where the paths of this section begin, before the recipe's own folder is tried.
    mix: how training rows are chosen; null takes every usable row as it is.
    unlabelled: prompts without an answer, which only the teacher's cache uses.
    overlap_with: suites ("bfcl"), files of rows, or "heldout" for the held-out side; rows that share a request with one
        of them are left out.
    """

    folder: str | None = None
    train: tuple[SourceConfig, ...] = ()
    heldout: tuple[SourceConfig, ...] = ()
    mix: MixConfig | None = None
    unlabelled: tuple[SourceConfig, ...] = ()
    overlap_with: tuple[str, ...] = ()
    heldout_tool_share: float = 0.1
    max_prompt_tokens: int = 1024
    max_completion_tokens: int = 256
    max_bad_share: float = 0.02


@dataclass(frozen=True, slots=True)
class TuningConfig:
    """Which weights learn: all of them, or LoRA on the last layers (backward stops below them)."""

    method: Literal["lora", "full"] = "lora"
    rank: int = 16
    alpha: int = 32
    last_layers: int | None = None
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    train_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """Settings shared by every gradient stage; `rows_per_step` counts rows of one optimizer step on all devices.

    precision: of the products; weights and losses are float32. `auto` is bfloat16 where the hardware multiplies it
    natively (a GPU; a CPU with AVX512-BF16 or AMX, where it saves a third of the time), else float32.
    tokens_per_forward: the most tokens that go through the model together, a prompt that rows share counted once; a
        longer row goes alone. When it is null, `rows_per_forward` limits the rows instead.
    minutes: wall time after which training stops, its learning rate decayed by then; null for no limit.
    compile: `auto` compiles the decoder layers and the loss on a GPU: the first step waits for it, all others are
        faster and need less memory.
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


@dataclass(frozen=True, slots=True)
class SimRlConfig:
    """Similarity-guided RL (GRPO): METHOD of STAR, with dynamic filtering of groups.

    `precision` is that of `OptimizerConfig`, for losses; sampling on a CPU stays float32.
    steps: of the optimizer; 0 leaves the stage out. passes: over the training rows, which decide the steps instead.
    vllm_memory_share: of the GPU's memory, taken by vLLM beside the trainer when `use_vllm` is true.
    vllm_server: `host:port` of a vLLM server on other GPUs, which samples instead.
    tokens_per_forward: most tokens of a forward of the update, prompts counted once. Null fills forwards by
        rows_per_forward; a step never takes more forwards than those would be.
    minutes: of training, after which the stage stops; null trains all its steps.
    group_reward_min, group_reward_max: groups with a mean reward outside are drawn anew; null leaves them to the
        reward, 0.01 and 0.99 as published for star and binary, -0.99 and 0.99 for typed (a wrong decision is -1).
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
    vllm_server: str | None = None
    save_every: int = 50
    precision: Precision = "auto"


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """A slice of the held-out rows scored while a stage trains: the best weights are kept, a collapse stops the stage.

    every_steps: steps from one score to the next; every_rl_steps: the same in Sim-RL, whose steps take longer; null
        for every_steps. rows: of the held-out rows, always the same.
    max_malformed: largest share of malformed answers. max_drop: most the score may fall below the best, as a share.
    max_reward_drop: in Sim-RL, most the mean reward of five steps may fall below the best five before.
    min_entropy: least entropy of the policy in nats a token, where there is one. Null switches a limit off.
    """

    every_steps: int = 20
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
    """Teacher adaptation: an optional supervised warm-up on labels, then Sim-RL."""

    tuning: TuningConfig = field(default_factory=TuningConfig)
    warmup: OptimizerConfig | None = None
    warmup_rows: int | None = None
    sim_rl: SimRlConfig = field(default_factory=SimRlConfig)


@dataclass(frozen=True, slots=True)
class TeacherCacheConfig:
    """Rollouts per prompt and the top-k log-probabilities kept of each completion position.

    use_vllm: vLLM draws the completions, in `vllm_memory_share` of the GPU's memory; the teacher then only reads them.
    least_reward: completions of prompts with a label that earn less under `reward` are not kept; null keeps them.
    rows_per_shard: rows of a file, and completions that vLLM is asked for at a time: each call waits for its longest,
        so a few thousand are faster, and more is done again after a kill.
    """

    prompts: int | None = None
    rollouts: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 512
    top_k: int = 100
    reward: RewardKind = "typed"
    least_reward: float | None = None
    rows_per_forward: int = 16
    rows_per_shard: int = 256
    use_vllm: bool = False
    vllm_memory_share: float = 0.5


@dataclass(frozen=True, slots=True)
class DistillConfig:
    tuning: TuningConfig = field(default_factory=TuningConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: Objective = "ckd"
    tail_weight: float = 10.0
    tail_top_m: int = 100
    chunk: int = 1024


@dataclass(frozen=True, slots=True)
class StudentRlConfig:
    tuning: TuningConfig = field(default_factory=TuningConfig)
    sim_rl: SimRlConfig = field(default_factory=SimRlConfig)


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What the student and other checkpoints of a run are scored on, before anything is exported.

    suites: "bfcl", "heldout" (the run's own held-out rows), or JSONL files of rows. limit: most cases of a category.
    checkpoints: named by the stage that left them; `base` is the untrained student, `adapt` the teacher.
    rows_per_forward: of transformers; vLLM makes its own batches, in `vllm_memory_share` of the GPU's memory.
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
    gguf: tuple[GgufQuantization, ...] = ("F16", "Q8_0", "Q4_K_M")
    onnx: tuple[OnnxQuantization, ...] = ("fp32", "int8")
    parity_cases: int = 8


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Limits that decide the exit code; null switches one off.

    exact_call_drop: most the exact-call rate of a file may fall below the merged checkpoint's, in points.
    lossless_drop: the same for F16, Q8_0 and fp32, which should lose nothing; `exact_call_drop` is not for them.
    exact_call_gain: least the merged checkpoint's exact-call rate must lie above the untrained student's, in points.
    size_mib: largest file; ttft_ms: slowest p95 time to first token; decode_tok_s: slowest p50 decode speed.
    """

    exact_call_drop: float | None = 10.0
    lossless_drop: float | None = 2.0
    exact_call_gain: float | None = None
    size_mib: float | None = None
    ttft_ms: float | None = None
    decode_tok_s: float | None = None


@dataclass(frozen=True, slots=True)
class ValidateConfig:
    cases: int = 60
    threads: int = 1
    max_new_tokens: int = 128
    rows_per_forward: int = 16
    gates: GateConfig = field(default_factory=GateConfig)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole run, resolved; `name` is the run's folder under `runs/`."""

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
