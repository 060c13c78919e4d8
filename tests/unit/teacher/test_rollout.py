from collections import Counter
from dataclasses import replace

import pytest

from star_edge.contracts import Example, TeacherCacheConfig
from star_edge.models import sampling
from star_edge.teacher import rollout
from star_edge.teacher.rollout import is_valid, sample, worth_keeping

TOOL = {"name": "dim", "description": "", "parameters": {"type": "object", "properties": {"room": {"type": "string"}}}}
CONFIG = TeacherCacheConfig(rollouts=4, max_new_tokens=8, top_k=3, rows_per_forward=8)


def call(name, arguments="{}"):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (call("dim", '{"room": "hall"}'), True),
        (call("dim") + "\n" + call("dim"), True),
        ("It is five o'clock.", True),
        ("", False),
        ("  \n", False),
        (call("brighten"), False),
        (call("dim", '{"level": 3}'), False),
        (call("dim", '{"room": '), False),
        ("<tool_call>\nnonsense\n</tool_call>", False),
    ],
)
def test_valid_completions_reply_or_call_what_was_offered(text, valid):
    assert is_valid(text, [TOOL]) is valid


def test_kept_rollouts_end_by_themselves_and_differ(chatty, codec, examples):
    rollouts = list(sample(chatty, codec, examples, CONFIG, seed=1, left_out=Counter()))
    assert len({(one.example_id, one.completion_ids) for one in rollouts}) == len(rollouts) > len(examples)
    prompts = {example.id: tuple(codec.prompt_ids(example)) for example in examples}
    for one in rollouts:
        assert one.prompt_ids == prompts[one.example_id]
        assert one.completion_ids[-1] in chatty.stop_token_ids
        assert one.topk_ids.shape == one.topk_logprobs.shape == (len(one.completion_ids), 3)
        assert codec.tokenizer.decode(list(one.completion_ids[:-1])) == one.text
        assert one.text


def test_completions_cut_by_the_length_limit_are_dropped(chatty, codec, examples):
    endless = replace(chatty, stop_token_ids=())
    left_out = Counter()
    assert not list(sample(endless, codec, examples[:2], CONFIG, seed=1, left_out=left_out))
    assert left_out == {"unfinished": 2 * CONFIG.rollouts}


def test_duplicates_and_invalid_completions_are_dropped(chatty, codec, examples, monkeypatch):
    good, bad = codec.tokenizer.encode("Yes."), codec.tokenizer.encode(call("brighten"))
    drawn = [sampling.Sample((*ids, 0), True, None, None) for ids in (good, bad, good)]
    monkeypatch.setattr(rollout, "sample_batch", lambda *args, **kwargs: [drawn])
    left_out = Counter()
    kept = list(sample(chatty, codec, examples[:1], CONFIG, seed=1, left_out=left_out))
    assert [one.text for one in kept] == ["Yes."]
    assert left_out == {"invalid": 1, "repeated": 1}


def labelled(text, **changed):
    example = Example(
        "row", "test", ({"role": "user", "content": "Dim it."}, {"role": "assistant", **changed}), (TOOL,)
    )

    def drawn(codec, config):
        left_out = Counter()
        kept = [t for _, t in worth_keeping(codec, example, [said(codec, text)], config, left_out)]
        return kept, dict(left_out)

    return drawn


def said(codec, text):
    return sampling.Sample((*codec.tokenizer.encode(text), 0), True, None, None)


@pytest.mark.parametrize(
    ("text", "target", "kept"),
    [
        (call("dim", '{"room": "hall"}'), {"tool_calls": [{"name": "dim", "arguments": {"room": "hall"}}]}, True),
        (call("dim", '{"room": "kitchen"}'), {"tool_calls": [{"name": "dim", "arguments": {"room": "hall"}}]}, False),
        ("No such tool.", {"tool_calls": [{"name": "dim", "arguments": {"room": "hall"}}]}, False),
        (call("dim"), {"content": "Which room?"}, False),
        ("Which one?", {"content": "Which room?"}, True),
        (call("dim", '{"room": "kitchen"}'), {"content": ""}, True),
    ],
    ids=["right", "wrong", "missed", "false call", "another reply", "no label"],
)
def test_completions_that_miss_a_label_can_be_left_out(codec, text, target, kept):
    drawn = labelled(text, **target)
    assert drawn(codec, replace(CONFIG, least_reward=0.8)) == (([text], {}) if kept else ([], {"wrong": 1}))
    assert drawn(codec, CONFIG) == ([text], {})


def test_draws_depend_on_the_seed_and_the_batch_alone(chatty, codec, examples):
    def drawn(seed, chosen):
        rollouts = sample(chatty, codec, chosen, CONFIG, seed=seed, left_out=Counter())
        return {(one.example_id, one.completion_ids) for one in rollouts}

    whole = drawn(1, examples)
    assert whole == drawn(1, examples)
    assert whole != drawn(2, examples)


@pytest.mark.parametrize(
    ("room", "target", "kept"),
    [
        ("porch", {"content": ""}, False),
        ("porch", {"tool_calls": [{"name": "dim", "arguments": {"room": "porch"}}]}, True),
        ("porch", {"tool_calls": [{"name": "dim", "arguments": {"room": "hall"}}]}, False),
        ("it", {"content": ""}, True),
    ],
    ids=["no label", "the label has it", "the label has another", "said"],
)
def test_completions_that_invent_a_value_can_be_left_out(codec, room, target, kept):
    text = call("dim", f'{{"room": "{room}"}}')
    drawn = labelled(text, **target)
    assert drawn(codec, replace(CONFIG, drop_unsaid=True)) == (([text], {}) if kept else ([], {"invented": 1}))
    assert drawn(codec, CONFIG) == ([text], {})
