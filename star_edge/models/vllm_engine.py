"""vLLM as a source of completions: token ids in, token ids out.

Our tokenizer decides what a prompt's tokens are and what a completion says, so vLLM starts without one, and it stops at
the ids that the model folder names and at no others.

Our jobs are over in a minute or two, of which vLLM's usual start would take one. So the engine runs in this process,
for a second one would import everything again, and nothing of the model is compiled: graphs are captured of decoding
alone.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from star_edge.errors import ModelError, RuntimeMissing
from star_edge.models.folder import stop_token_ids
from star_edge.models.sampling import Sample

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    # Its log goes to stdout unless told otherwise, which is where results belong.
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    # An engine's process must not inherit a CUDA that this one has looked at.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # Its newer runner compiles kernels for a quarter of a minute at every start.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # The model is a local folder; without a network every look at the hub would wait for its time-out.
    "HF_HUB_OFFLINE": "1",
}
FLASHINFER_SAMPLER = "VLLM_USE_FLASHINFER_SAMPLER"
OWN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
USERS_CHOICE = os.environ.get(OWN_PROCESS)  # read now: engines of others set it, and leave it so
COMPILATION = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
WORKSPACE = 4 * 2**30
"""Bytes of a share left for activations, captured graphs and CUDA itself; an estimate, on the large side."""


def prepare_environment() -> None:
    """Set what vLLM reads when it is imported, where the user has not."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if find_spec("flashinfer") is None:
        # vLLM takes its sampler for granted on a GPU; draws without top-k or top-p do not need it.
        os.environ.setdefault(FLASHINFER_SAMPLER, "0")


def import_vllm() -> Any:
    """vLLM with all that an engine needs of it, which takes some ten seconds.

    Raises: RuntimeMissing: it is not installed.
    """
    prepare_environment()
    try:
        import vllm
    except ImportError as error:
        raise RuntimeMissing.for_extra("vllm", "vllm") from error
    _ = vllm.LLM, vllm.SamplingParams  # it imports them when they are looked for
    return vllm


class VllmEngine:
    """A model folder (no adapter: merge it first) on the GPU."""

    def __init__(
        self,
        folder: Path,
        *,
        max_model_len: int,
        dtype: str = "bfloat16",
        gpu_memory_utilization: float = 0.9,
        seed: int = 0,
        enable_prefix_caching: bool = True,
        seeded_requests: bool = False,
        has_neighbours: bool = False,
        max_top_k: int = 0,
    ) -> None:
        """Load the model.

        Args:
            max_model_len: most tokens of one prompt and its completion.
            dtype: of weights and activations.
            gpu_memory_utilization: share of the GPU's whole memory for weights, activations and the key-value cache.
            seed: of the engine's one stream of random numbers.
            enable_prefix_caching: compute what prompts have in common once.
            seeded_requests: give every prompt and copy a stream of its own, so that a call's draws depend on its seed
                alone. vLLM then draws row by row for every token; with its one stream it draws all rows at once, but a
                draw depends on all that was drawn before and on what shared its batches.
            has_neighbours: other programs use the GPU. Left to measure what its cache can have, vLLM refuses to start
                when another gives memory back meanwhile; so it is told: what the share leaves beside the weights and
                `WORKSPACE`. The share itself must still be free when it starts.
            max_top_k: the largest `top_k` that `sample` may be asked for.
        Raises:
            RuntimeMissing: vLLM is not installed.
            ModelError: vLLM cannot load the folder, or the GPU lacks the memory.
        """
        vllm = self._vllm = import_vllm()
        self._seeded_requests = seeded_requests
        self._stops = list(stop_token_ids(folder))
        room = _cache_bytes(folder, gpu_memory_utilization) if has_neighbours else None
        try:
            with _in_this_process():
                self._llm: Any = vllm.LLM(
                    model=str(folder),
                    skip_tokenizer_init=True,
                    generation_config="vllm",  # no sampling settings of the folder's behind our back
                    max_model_len=max_model_len,
                    dtype=dtype,
                    gpu_memory_utilization=gpu_memory_utilization,
                    seed=seed,
                    enable_prefix_caching=enable_prefix_caching,
                    compilation_config=COMPILATION,
                    max_logprobs=max_top_k,
                    **({} if room is None else {"kv_cache_memory_bytes": room}),
                )
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{folder}: vLLM cannot load it ({reason}); -v shows its log") from error

    @property
    def version(self) -> str:
        return str(self._vllm.__version__)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        copies: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        top_k: int = 0,
    ) -> list[list[Sample]]:
        """Draw `copies` completions for each prompt.

        Args:
            prompts: token ids; each leaves room for at least one token of `max_model_len`.
            temperature: 0 takes the most likely token; copies are then equal, and drawn once.
            seed: decides every draw of an engine with seeded requests; of no meaning to others.
            top_k: most likely ids of every position, those that name no token included, which are asked for with
                their log-probabilities. vLLM rounds logits to its `dtype` before.
        Returns: for each prompt its completions.
        """
        is_greedy = temperature == 0
        is_seeded = self._seeded_requests and not is_greedy
        settings = [
            self._vllm.SamplingParams(
                n=1 if is_greedy else copies,
                temperature=temperature,
                max_tokens=max_new_tokens,
                stop_token_ids=self._stops,
                ignore_eos=True,  # of the folder's own reading; the end tokens are those above
                detokenize=False,
                seed=seed + number * copies if is_seeded else None,  # vLLM adds a copy's number to it
                **({"logprobs": top_k, "flat_logprobs": True} if top_k else {}),  # flat: lists, not objects
            )
            for number in range(len(prompts))
        ]
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        answers = self._llm.generate(asked, settings, use_tqdm=False)
        drawn = [[_sample(output, top_k) for output in answer.outputs] for answer in answers]
        return [rows * copies for rows in drawn] if is_greedy else drawn

    def close(self) -> None:
        """End the engine, which frees the GPU; safe to call twice."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """Engines that other code makes meanwhile start as ours do: TRL has no setting for what its engine compiles."""
    import vllm

    usual = vllm.LLM.__init__

    def start(llm: Any, *args: Any, **settings: Any) -> None:
        usual(llm, *args, **{"compilation_config": COMPILATION} | settings)

    vllm.LLM.__init__ = start
    try:
        yield
    finally:
        vllm.LLM.__init__ = usual


@contextmanager
def _in_this_process() -> Iterator[None]:
    """An engine that is made meanwhile runs in this process, unless that has joined others or the user says no.

    When it ends, an engine within a process ends what joins that process to others, too.
    """
    import torch.distributed

    has_joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    before = os.environ.get(OWN_PROCESS)
    os.environ[OWN_PROCESS] = USERS_CHOICE or ("1" if has_joined else "0")
    try:
        yield
    finally:
        if before is None:
            del os.environ[OWN_PROCESS]
        else:
            os.environ[OWN_PROCESS] = before


def _cache_bytes(folder: Path, share: float) -> int | None:
    """What a share of the GPU's memory leaves for the key-value cache; None where it is too little to count by."""
    if not torch.cuda.is_available():
        return None
    total = torch.cuda.get_device_properties(0).total_memory
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))  # stored as wide, or wider
    left = int(share * total) - weights - WORKSPACE
    return left if left > WORKSPACE // 4 else None


def _sample(output: Any, top_k: int) -> Sample:
    ids = tuple(output.token_ids)
    likely, logprobs = torch.zeros(len(ids), 0, dtype=torch.int32), torch.zeros(len(ids), 0, dtype=torch.float16)
    if top_k:
        # Before each position's most likely ids vLLM puts the one that was drawn.
        likely = _rows(output.logprobs.token_ids, top_k, torch.int32)
        logprobs = _rows(output.logprobs.logprobs, top_k, torch.float16)
    return Sample(ids, output.finish_reason == "stop", likely, logprobs)


def _rows(flat: Sequence[float], top_k: int, dtype: torch.dtype) -> Tensor:
    return torch.tensor(flat, dtype=dtype).view(-1, 1 + top_k)[:, 1:].contiguous()
