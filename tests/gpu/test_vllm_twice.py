from pathlib import Path

import pytest
import torch

from star_edge.models.vllm_engine import Completion, VllmEngine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.usefixtures("socket_enabled"),  # vLLM looks for a free port
]


def test_a_second_engine_in_this_process_finds_the_memory_of_the_first(tiny_student: Path) -> None:
    pytest.importorskip("vllm")

    def answers() -> list[list[Completion]]:
        engine = VllmEngine(tiny_student, max_model_len=64, gpu_memory_utilization=0.6)
        try:
            return engine.sample([[5, 6, 7]] * 4, copies=1, temperature=0.0, max_new_tokens=8, seed=0)
        finally:
            engine.close()

    free = torch.cuda.mem_get_info()[0]
    first = answers()
    assert torch.cuda.mem_get_info()[0] > free - 2**31
    assert answers() == first
