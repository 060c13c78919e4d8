"""Where two answers part, and how sure torch was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from star_edge.contracts import Generation
from star_edge.models.generate import greedy, next_token_logits
from star_edge.models.load import LoadedModel
from star_edge.parity.compare import NO_TOKEN, compare, first_difference, same_outcome

PROMPTS = {"a": "<|im_start|>user\nlights<|im_end|>\n<|im_start|>assistant\n", "b": "weather in the kitchen"}
CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def answers(student: LoadedModel) -> list[Generation]:
    return greedy(student, list(PROMPTS.items()), max_new_tokens=6, rows_per_forward=2)


class Follows:
    """A file that chooses `wrong` at one position and torch's token elsewhere."""

    def __init__(self, wrong: int, position: int) -> None:
        self.wrong, self.position, self.asked = wrong, position, 0

    def follow(self, prompt_ids: Sequence[int], forced: Sequence[int]) -> list[int]:
        self.asked += 1
        return [self.wrong if place == self.position else token for place, token in enumerate(forced)]


@pytest.mark.parametrize(
    ("told", "said", "position"),
    [
        ([1, 2], [1, 2], None),
        ([1, 2, 3], [1, 9, 3], 1),
        ([1], [2], 0),
        ([1, 2, 3], [1, 2], 2),
        ([1], [], 0),
        ([1, 2], [1, 2, 3], None),
        ([1, 2, 3], [1, 9], 1),
    ],
)
def test_first_difference(told: list[int], said: list[int], position: int | None) -> None:
    assert first_difference(told, said) == position


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("yes", "no", True),
        (CALL, "ok " + CALL.replace("1}", "1.0}"), True),
        (CALL, CALL.replace("1", "2"), False),
        (CALL, "yes", False),
        ("<tool_call>{", "<tool_call>[", True),
        ("<tool_call>{", "yes", False),
    ],
)
def test_same_outcome_is_about_calls_and_not_about_words(a: str, b: str, same: bool) -> None:
    assert same_outcome(a, b) is same


def test_equal_answers_agree_everywhere_without_asking_the_file(
    student: LoadedModel, answers: list[Generation]
) -> None:
    runtime = Follows(0, 0)
    report = compare(student, PROMPTS, answers, answers, label="gguf F16", runtime=runtime)
    assert (report.label, report.n, report.agreement, report.same_calls) == ("gguf F16", 2, 1.0, 1.0)
    assert (report.forced_agreement, report.differences, report.largest_margin) == (1.0, (), 0.0)
    assert report.forced_positions == sum(len(answer.token_ids) + answer.stopped for answer in answers)
    assert runtime.asked == 0


def test_a_difference_is_listed_with_torchs_margin(student: LoadedModel, answers: list[Generation]) -> None:
    reference = answers[0]
    told = reference.token_ids
    assert len(told) >= 4
    wrong = (told[2] + 1) % 800
    other = replace(reference, token_ids=(*told[:2], wrong, *told[3:]), text=CALL)
    runtime = Follows(wrong, 2)
    report = compare(student, PROMPTS, answers, [other, answers[1]], label="f", runtime=runtime)
    (difference,) = report.differences
    ids = student.tokenizer(PROMPTS["a"], add_special_tokens=False)["input_ids"]
    logits = next_token_logits(student, [*ids, *told[:2]])
    assert (difference.id, difference.position) == ("a", 2)
    assert (difference.torch_token, difference.file_token) == (told[2], wrong)
    assert difference.torch_margin == pytest.approx(float(logits[told[2]] - logits[wrong]))
    assert difference.torch_margin > 0
    assert difference.file_text == student.tokenizer.decode([wrong])
    assert not difference.same_calls
    assert (report.agreement, report.same_calls) == (0.5, 0.5)
    assert report.forced_agreement == pytest.approx((report.forced_positions - 1) / report.forced_positions)
    assert runtime.asked == 1


def test_being_cut_by_the_same_limit_is_no_difference(student: LoadedModel, answers: list[Generation]) -> None:
    cut = [replace(answer, token_ids=answer.token_ids[:3], stopped=False) for answer in answers]
    assert compare(student, PROMPTS, cut, cut, label="f").differences == ()


def test_ending_early_and_having_no_room_are_differences(student: LoadedModel, answers: list[Generation]) -> None:
    reference = answers[0]
    cut = replace(reference, token_ids=reference.token_ids[:3], stopped=False)
    (difference,) = compare(student, PROMPTS, answers, [cut], label="f").differences
    assert (difference.position, difference.torch_token) == (3, reference.token_ids[3])
    assert (difference.file_token, difference.file_text, difference.torch_margin) == (NO_TOKEN, "", 0.0)
    ended = replace(cut, stopped=True)
    (difference,) = compare(student, PROMPTS, answers, [ended], label="f").differences
    assert (difference.position, difference.file_token) == (3, student.stop_token_ids[0])


def test_teacher_forced_agreement_needs_a_runtime_only_when_answers_differ(
    student: LoadedModel, answers: list[Generation]
) -> None:
    ended = replace(answers[0], token_ids=(), stopped=True)
    assert compare(student, PROMPTS, answers, [ended], label="f").forced_agreement is None
    assert compare(student, PROMPTS, answers, answers, label="f").forced_agreement == 1.0


def test_margin_of_a_tie_is_never_negative(student: LoadedModel, answers: list[Generation]) -> None:
    # torch's token and the file's are swapped, so torch alone would rather have said what the file says
    told = answers[0].token_ids
    flipped = replace(answers[0], token_ids=((told[0] + 1) % 800, *told[1:]))
    (difference,) = compare(student, PROMPTS, [flipped], [answers[0]], label="f").differences
    assert difference.torch_margin == 0.0
