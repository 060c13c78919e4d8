from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from star_edge.models.generate import greedy, next_token_logits
from star_edge.models.load import LoadedModel

PROMPTS = [(f"row-{n}", "<|im_start|>user\n" + "turn on the lights " * n + "<|im_end|>\n") for n in (5, 0, 3, 1, 8)]
NEW_TOKENS = 20


def reference(loaded: LoadedModel, prompt: str) -> list[int]:
    """transformers' own greedy search on one row."""
    ids = torch.tensor([loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    output = loaded.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=list(loaded.stop_token_ids),
        pad_token_id=0,
    )
    return output[0, ids.shape[1] :].tolist()


def stopping_at_its_own_tokens(loaded: LoadedModel) -> LoadedModel:
    """The same model, told to stop at tokens it is known to say: an untrained one hardly ever ends a turn."""
    said = [reference(loaded, prompt) for _, prompt in PROMPTS]
    return replace(loaded, stop_token_ids=(said[0][4], said[2][11]))


def test_rows_of_a_batch_equal_transformers_one_by_one(loaded_tiny: LoadedModel) -> None:
    loaded = stopping_at_its_own_tokens(loaded_tiny)
    generations = greedy(loaded, PROMPTS, max_new_tokens=NEW_TOKENS, rows_per_forward=3)
    for (name, prompt), generation in zip(PROMPTS, generations, strict=True):
        expected = reference(loaded, prompt)
        stopped = expected[-1] in loaded.stop_token_ids
        assert generation.id == name
        assert generation.token_ids == tuple(expected[:-1] if stopped else expected)
        assert generation.stopped is stopped
        assert generation.text == loaded.tokenizer.decode(list(generation.token_ids))
    assert {generation.stopped for generation in generations} == {True, False}


@pytest.mark.parametrize("rows_per_forward", [1, 2, 5, 100])
def test_batch_size_changes_nothing(loaded_student: LoadedModel, rows_per_forward: int) -> None:
    loaded = stopping_at_its_own_tokens(loaded_student)
    one_by_one = greedy(loaded, PROMPTS, max_new_tokens=NEW_TOKENS, rows_per_forward=1)
    assert greedy(loaded, PROMPTS, max_new_tokens=NEW_TOKENS, rows_per_forward=rows_per_forward) == one_by_one


def test_finished_rows_leave_the_batch(loaded_student: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = stopping_at_its_own_tokens(loaded_student)
    rows: list[int] = []
    forward = loaded.model.forward

    def counting(*args: object, **kwargs: object) -> object:
        rows.append(kwargs["input_ids"].shape[0])  # type: ignore[attr-defined]
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.model, "forward", counting)
    generations = greedy(loaded, PROMPTS, max_new_tokens=NEW_TOKENS, rows_per_forward=5)
    needed = [len(g.token_ids) + g.stopped for g in generations]
    assert rows == [sum(n > step for n in needed) for step in range(max(needed))]


def test_prompt_tokens_count_the_prompt_alone(loaded_student: LoadedModel) -> None:
    (generation,) = greedy(loaded_student, [("a", "<|im_start|>turn")], max_new_tokens=1, rows_per_forward=1)
    assert generation.prompt_tokens == 2
    assert len(generation.token_ids) == 1
    assert not generation.stopped


def test_no_prompts_give_no_generations(loaded_student: LoadedModel) -> None:
    assert greedy(loaded_student, [], max_new_tokens=3, rows_per_forward=2) == []


def test_next_token_logits_are_the_last_row_of_a_forward(loaded_tiny: LoadedModel) -> None:
    ids = [3, 5, 7, 11]
    with torch.inference_mode():
        expected = loaded_tiny.model(torch.tensor([ids])).logits[0, -1]
    found = next_token_logits(loaded_tiny, ids)
    assert found.shape == (loaded_tiny.model.config.vocab_size,)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
