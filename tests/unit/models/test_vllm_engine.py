from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_vllm import install

from star_edge.errors import ModelError, RuntimeMissing
from star_edge.models.folder import stop_token_ids
from star_edge.models.vllm_engine import COMPILATION, VllmEngine, nothing_compiled


def test_completions_come_prompt_by_prompt_with_the_token_that_ended_them(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, lambda prompt, _: prompt[::-1])
    end = stop_token_ids(tiny_student)[0]
    engine = VllmEngine(tiny_student, max_model_len=64)
    drawn = engine.sample([[5, 6], [7, 8, 9]], copies=2, temperature=1.0, max_new_tokens=3, seed=1)
    said = [[(one.ids, one.stopped) for one in rows] for rows in drawn]
    assert said == [[((6, 5, end), True)] * 2, [((9, 8, 7), False)] * 2]
    assert all(one.topk_ids.shape == one.topk_logprobs.shape == (3, 0) for rows in drawn for one in rows)


def test_the_likeliest_ids_come_without_the_drawn_one_before_them(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, lambda *_: [9])
    engine = VllmEngine(tiny_student, max_model_len=64, max_top_k=3)
    ((one,),) = engine.sample([[5]], copies=1, temperature=1.0, max_new_tokens=4, seed=1, top_k=3)
    assert one.topk_ids.tolist() == [[0, 1, 2], [1, 2, 3]]
    torch.testing.assert_close(one.topk_logprobs, torch.tensor([[-0.7, -1.4, -2.1]] * 2).half())
    assert (one.topk_ids.dtype, one.topk_logprobs.dtype) == (torch.int32, torch.float16)


def test_greedy_draws_once_and_repeats_it(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, lambda *_: [3])
    drawn = VllmEngine(tiny_student, max_model_len=64).sample(
        [[5]], copies=3, temperature=0.0, max_new_tokens=4, seed=1
    )
    (_, (settings,)) = fake.calls[0]
    assert (settings.n, settings.seed) == (1, None)
    assert drawn == [[drawn[0][0]] * 3]


def test_draws_come_from_the_engines_one_stream_unless_asked(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = install(monkeypatch, lambda *_: [3])
    engine = VllmEngine(tiny_student, max_model_len=64, seed=9)
    engine.sample([[5]] * 3, copies=2, temperature=1.0, max_new_tokens=4, seed=1)
    assert [settings.seed for settings in fake.calls[0][1]] == [None] * 3
    assert fake.loaded["seed"] == 9


def test_every_prompt_and_copy_has_a_seed_of_its_own(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, lambda *_: [3])
    engine = VllmEngine(tiny_student, max_model_len=64, seeded_requests=True)
    engine.sample([[5]] * 4, copies=8, temperature=0.7, max_new_tokens=4, seed=100)
    first = [settings.seed for settings in fake.calls[0][1]]
    # vLLM gives copy i of a prompt the prompt's seed plus i.
    streams = {seed + copy for seed in first for copy in range(8)}
    assert len(streams) == 32
    engine.sample([[5]] * 4, copies=8, temperature=0.7, max_new_tokens=4, seed=100)
    assert [settings.seed for settings in fake.calls[1][1]] == first


def test_only_the_folders_end_tokens_stop_and_vllm_has_no_tokenizer(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = install(monkeypatch, lambda *_: [3])
    VllmEngine(tiny_student, max_model_len=64).sample([[5]], copies=1, temperature=1.0, max_new_tokens=4, seed=0)
    (settings,) = fake.calls[0][1]
    assert settings.stop_token_ids == list(stop_token_ids(tiny_student))
    assert settings.ignore_eos
    assert not settings.detokenize
    assert fake.loaded["skip_tokenizer_init"]
    assert fake.loaded["generation_config"] == "vllm"


def test_flashinfer_is_used_where_it_is(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda *_: [3])
    monkeypatch.setattr("star_edge.models.vllm_engine.find_spec", lambda name: name)
    VllmEngine(tiny_student, max_model_len=64)
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in os.environ


def test_nothing_is_reported_or_looked_up_and_stdout_stays_clean(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, lambda *_: [3])
    VllmEngine(tiny_student, max_model_len=64)
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert os.environ["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert os.environ["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"


@pytest.mark.parametrize(("joined", "users", "own"), [(False, None, "0"), (True, None, "1"), (False, "1", "1")])
@pytest.mark.parametrize("left_by_others", [None, "0"])
def test_the_engine_runs_in_this_process_unless_that_has_joined_others_or_the_user_says_no(
    joined: bool,
    users: str | None,
    own: str,
    left_by_others: str | None,
    tiny_student: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = install(monkeypatch, lambda *_: [3])
    monkeypatch.setattr("star_edge.models.vllm_engine.USERS_CHOICE", users)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: joined)
    if left_by_others is not None:
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", left_by_others)
    VllmEngine(tiny_student, max_model_len=64)
    assert fake.own_process == own
    assert os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == left_by_others


def test_the_quick_start_compiles_nothing_and_takes_the_older_runner(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = install(monkeypatch, lambda *_: [3])
    VllmEngine(tiny_student, max_model_len=64)
    assert fake.loaded["compilation_config"] == {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
    assert os.environ["VLLM_USE_V2_MODEL_RUNNER"] == "0"


def test_engines_of_other_code_compile_nothing_while_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class LLM:
        def __init__(self, model: str, **settings: object) -> None:
            self.settings = settings

    fake = install(monkeypatch, lambda *_: [3])
    monkeypatch.setattr(fake, "LLM", LLM)
    with nothing_compiled():
        assert LLM("folder", seed=1).settings == {"seed": 1, "compilation_config": COMPILATION}
        assert LLM("folder", compilation_config=3).settings == {"compilation_config": 3}
    with pytest.raises(ValueError, match="full"), nothing_compiled():
        raise ValueError("full")
    assert LLM("folder").settings == {}


def test_closing_ends_the_engine_once(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, lambda *_: [3])
    engine = VllmEngine(tiny_student, max_model_len=64)
    engine.close()
    engine.close()
    assert fake.shutdowns == 1


def test_what_vllm_cannot_load_is_one_line(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda *_: [], fails_with=RuntimeError("Engine core failed\nsee the root cause above"))
    with pytest.raises(ModelError, match=r"vLLM cannot load it \(Engine core failed\)") as caught:
        VllmEngine(tiny_student, max_model_len=64)
    assert "\n" not in str(caught.value)
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in os.environ


def test_a_missing_vllm_names_the_extra(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(RuntimeMissing, match=r"pip install 'star-edge\[vllm\]'"):
        VllmEngine(tiny_student, max_model_len=64)


@pytest.mark.parametrize(("share", "given"), [(0.4, 40 * 2**30 - 4 * 2**30), (0.04, None)])
def test_beside_others_the_cache_gets_what_the_share_leaves(
    share: float, given: int | None, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = install(monkeypatch, lambda *_: [3])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=100 * 2**30))
    weights = sum(path.stat().st_size for path in tiny_student.glob("*.safetensors"))

    VllmEngine(tiny_student, max_model_len=64, gpu_memory_utilization=share, has_neighbours=True)
    assert fake.loaded.get("kv_cache_memory_bytes") == (given and given - weights)
    VllmEngine(tiny_student, max_model_len=64, gpu_memory_utilization=share)
    assert "kv_cache_memory_bytes" not in fake.loaded
