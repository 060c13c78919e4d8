from dataclasses import dataclass

import pytest
import torch

from star_edge.contracts import TeacherCacheConfig
from star_edge.teacher.engine_rollout import sample_by_engine
from star_edge.teacher.rollout import sample
from star_edge.teacher.scoring import Scorer


@pytest.fixture(scope="module")
def rollouts(chatty, codec, examples):
    config = TeacherCacheConfig(rollouts=3, max_new_tokens=6, top_k=5, rows_per_forward=6)
    return list(sample(chatty, codec, examples, config, seed=5))


def grouped(rollouts):
    prompts = {}
    for rollout in rollouts:
        prompts.setdefault(rollout.prompt_ids, []).append(rollout)
    return list(prompts.items())


@pytest.mark.parametrize("budget", [1, 700, 100_000])
def test_scoring_afterwards_finds_what_sampling_captured(chatty, rollouts, budget):
    prompts = grouped(rollouts)
    scored = Scorer(chatty, top_k=5, tokens_per_forward=budget)(
        [(p, [r.completion_ids for r in rows]) for p, rows in prompts]
    )
    assert len(rollouts) > len(prompts)  # so that some prompt is shared
    for (_, rows), pieces in zip(prompts, scored, strict=True):
        for rollout, (ids, logprobs) in zip(rows, pieces, strict=True):
            assert (ids.dtype, logprobs.dtype) == (torch.int32, torch.float16)
            assert torch.equal(ids, rollout.topk_ids)
            torch.testing.assert_close(logprobs, rollout.topk_logprobs, atol=4e-3, rtol=4e-3)


def test_a_prompt_without_a_completion_has_nothing_to_score(chatty, rollouts):
    prompt, rows = grouped(rollouts)[0]
    ids = [rollout.completion_ids for rollout in rows]
    scored = Scorer(chatty, top_k=5)([(prompt, []), (prompt, ids)])
    assert [len(pieces) for pieces in scored] == [0, len(ids)]


@dataclass(frozen=True)
class Spoken:
    ids: tuple[int, ...]
    stopped: bool


class Parrot:
    """An engine that says what sampling said, each completion twice, and one more that never ended."""

    def __init__(self, rollouts):
        self.said = {prompt: [Spoken(r.completion_ids, True) for r in rows] for prompt, rows in grouped(rollouts)}
        self.asked = {}

    def sample(self, prompts, **asked):
        self.asked = asked
        return [[*2 * self.said[tuple(prompt)], Spoken((5, 6), False)] for prompt in prompts]


def test_an_engine_and_sampling_here_make_the_same_rollouts(chatty, codec, examples, rollouts):
    engine = Parrot(rollouts)
    config = TeacherCacheConfig(rollouts=3, temperature=0.7, max_new_tokens=6, top_k=5)
    made = list(sample_by_engine(engine, Scorer(chatty, top_k=5), codec, examples, config, seed=5))
    assert engine.asked == {"copies": 3, "temperature": 0.7, "max_new_tokens": 6, "seed": 5}
    assert {(r.example_id, r.prompt_ids, r.completion_ids, r.text) for r in made} == {
        (r.example_id, r.prompt_ids, r.completion_ids, r.text) for r in rollouts
    }
    assert [r.example_id for r in made] == sorted(r.example_id for r in made)
