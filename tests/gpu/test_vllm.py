from pathlib import Path

import pytest
import torch

from star_edge.contracts import Checkpoint
from star_edge.models.load import load
from star_edge.models.sampling import vocabulary_size
from star_edge.models.vllm_engine import VllmEngine
from star_edge.teacher.engine_rollout import named_top_k
from star_edge.teacher.scoring import Scorer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.usefixtures("socket_enabled"),  # vLLM looks for a free port
]


def test_a_second_engine_in_this_process_finds_the_memory_of_the_first(tiny_student: Path) -> None:
    pytest.importorskip("vllm")

    def answers() -> list[list[tuple[int, ...]]]:
        engine = VllmEngine(tiny_student, max_model_len=64, gpu_memory_utilization=0.6)
        try:
            drawn = engine.sample([[5, 6, 7]] * 4, copies=1, temperature=0.0, max_new_tokens=8, seed=0)
            return [[one.ids for one in rows] for rows in drawn]
        finally:
            engine.close()

    free = torch.cuda.mem_get_info()[0]
    first = answers()
    assert torch.cuda.mem_get_info()[0] > free - 2**31
    assert answers() == first


def test_its_log_probabilities_are_those_of_a_teacher_forced_pass(tiny_student: Path) -> None:
    pytest.importorskip("vllm")
    prompts = [[5, 6, 7], [8, 9, 10, 11]]
    engine = VllmEngine(tiny_student, max_model_len=64, gpu_memory_utilization=0.3, max_top_k=20, dtype="float32")
    try:
        drawn = engine.sample(prompts, copies=3, temperature=0.7, max_new_tokens=8, seed=0, top_k=20)
    finally:
        engine.close()
    loaded = load(Checkpoint(tiny_student, "base"), device="cuda", dtype="float32")
    read = Scorer(loaded, top_k=12)([(p, [one.ids for one in rows]) for p, rows in zip(prompts, drawn, strict=True)])
    for rows, pieces in zip(drawn, read, strict=True):
        for one, (_, logprobs) in zip(rows, pieces, strict=True):
            # Near-ties may swap their ids, so the likelihoods are compared.
            kept = named_top_k(one, 12, vocabulary_size(loaded.tokenizer))[1]
            torch.testing.assert_close(kept, logprobs, atol=2e-2, rtol=0)
