from collections import Counter
from dataclasses import replace

import pytest
import torch

from star_edge.contracts import Checkpoint, TeacherCacheConfig
from star_edge.errors import TeacherCacheError
from star_edge.models.sampling import Sample, vocabulary_size
from star_edge.teacher.cache import CacheFingerprint, build, open_cache
from star_edge.teacher.engine_rollout import SPARE, named_top_k, sample_by_engine
from star_edge.teacher.rollout import sample
from star_edge.teacher.scoring import Scorer


@pytest.fixture(scope="module")
def rollouts(chatty, codec, examples):
    config = TeacherCacheConfig(rollouts=3, max_new_tokens=6, top_k=5, rows_per_forward=6)
    return list(sample(chatty, codec, examples, config, seed=5, left_out=Counter()))


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


class Parrot:
    """An engine that says what sampling said, each completion twice, and one more that never ended.

    The likeliest id of every position is a row of its head's padding.
    """

    def __init__(self, rollouts, vocabulary):
        self.said, self.vocabulary, self.asked = grouped(rollouts), vocabulary, {}

    def sample(self, prompts, **asked):
        self.asked = asked
        said = {prompt: [self.heard(row, asked["top_k"]) for row in rows] for prompt, rows in self.said}
        return [[*2 * said[tuple(prompt)], Sample((5, 6), False, *EMPTY)] for prompt in prompts]

    def heard(self, rollout, top_k):
        rows, kept = rollout.topk_ids.shape
        ids, logprobs = torch.full((rows, top_k), self.vocabulary), torch.full((rows, top_k), -0.01)
        ids[:, 1 : 1 + kept], logprobs[:, 1 : 1 + kept] = rollout.topk_ids, rollout.topk_logprobs
        ids[:, 1 + kept :] = torch.arange(top_k - 1 - kept)
        return Sample(rollout.completion_ids, True, ids.int(), logprobs.half())


EMPTY = torch.empty(0, 0, dtype=torch.int32), torch.empty(0, 0, dtype=torch.float16)
CONFIG = TeacherCacheConfig(rollouts=3, temperature=0.7, max_new_tokens=6, top_k=5)


def test_an_engine_and_sampling_here_make_the_same_rollouts(codec, examples, rollouts):
    engine = Parrot(rollouts, vocabulary_size(codec.tokenizer))
    made = list(sample_by_engine(engine, codec, examples, CONFIG, seed=5, left_out=Counter()))
    assert engine.asked == {"copies": 3, "temperature": 0.7, "max_new_tokens": 6, "seed": 5, "top_k": 5 + SPARE}
    by_what = {(r.example_id, r.prompt_ids, r.completion_ids, r.text): r for r in rollouts}
    assert {(r.example_id, r.prompt_ids, r.completion_ids, r.text) for r in made} == set(by_what)
    assert [r.example_id for r in made] == sorted(r.example_id for r in made)
    for r in made:
        there = by_what[r.example_id, r.prompt_ids, r.completion_ids, r.text]
        assert torch.equal(r.topk_ids, there.topk_ids)
        assert torch.equal(r.topk_logprobs, there.topk_logprobs)


def test_an_engine_is_asked_for_no_more_ids_than_there_are(codec, examples):
    engine = Parrot([], vocabulary_size(codec.tokenizer))
    engine.said = [(tuple(codec.prompt_ids(example)), []) for example in examples]
    assert not list(sample_by_engine(engine, codec, examples, replace(CONFIG, top_k=10**6), seed=5, left_out=Counter()))
    assert engine.asked["top_k"] == vocabulary_size(codec.tokenizer) + SPARE


def test_ids_that_name_no_token_are_passed_over_position_by_position():
    ids = torch.tensor([[9, 3, 8, 1], [2, 1, 9, 0]], dtype=torch.int32)
    sample = Sample((1, 2), True, ids, -torch.arange(8.0).view(2, 4).half())
    kept, logprobs = named_top_k(sample, 2, 8)
    assert (kept.tolist(), logprobs.tolist()) == ([[3, 1], [2, 1]], [[-1, -3], [-4, -5]])
    with pytest.raises(TeacherCacheError, match=r"cache\.use_vllm: false"):
        named_top_k(sample, 3, 8)


@pytest.fixture
def build_by_engine(codec, rollouts, tiny_student, tmp_path):
    """Build a cache that an engine draws, two prompts a shard, and read it back."""
    config = replace(CONFIG, use_vllm=True, rows_per_shard=6)
    there = {"label": "tiny", "revision": None, "tokenizer": "", "template": ""}
    given = {"fingerprint": CacheFingerprint.of(Checkpoint(tiny_student, "base"), **there, config=config), "seed": 3}
    engine = Parrot(rollouts, vocabulary_size(codec.tokenizer))

    def run(load, asked, labelled=()):
        cache = build(load, codec, asked, config, tmp_path, **given, engine=engine, labelled=labelled)
        return open_cache(cache.folder).rows

    return run


def test_a_cache_that_an_engine_draws_loads_no_teacher(build_by_engine, examples, rollouts):
    def load():
        raise AssertionError("nobody asked for the teacher")

    rows = build_by_engine(load, examples)
    there = {(r.example_id, r.completion_ids): r for r in rollouts}
    assert {(row.example_id, row.completion_ids) for row in rows} == set(there)
    for row in rows:
        drawn = there[row.example_id, row.completion_ids]
        assert torch.equal(row.topk_ids, drawn.topk_ids)
        assert torch.equal(row.topk_logprobs, drawn.topk_logprobs)


def test_labels_beside_an_engines_draws_are_read_by_the_teacher(build_by_engine, chatty, codec, examples, rollouts):
    loaded = []

    def load():
        loaded.append(chatty)
        return chatty

    rows = build_by_engine(load, examples[:2], labelled=examples[2:])
    asked, labelled = ({example.id for example in part} for part in (examples[:2], examples[2:]))
    drawn = {r.completion_ids for r in rollouts if r.example_id in asked}
    assert {row.completion_ids for row in rows if row.example_id in asked} == drawn
    labels = {row.example_id: row for row in rows if row.example_id in labelled}
    for row in codec.encode_all(examples[2:]):
        (((ids, logprobs),),) = Scorer(chatty, top_k=5)([(row.prompt_ids, [row.completion_ids])])
        assert labels[row.id].completion_ids == row.completion_ids
        assert torch.equal(labels[row.id].topk_ids, ids)
        torch.testing.assert_close(labels[row.id].topk_logprobs, logprobs, atol=4e-3, rtol=4e-3)
    assert len(loaded) == 1
