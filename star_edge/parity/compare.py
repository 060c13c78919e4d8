"""An exported file against the torch checkpoint it was made from, case by case.

Both answer the same prompts greedily. Where the answers part, the first differing token is listed with torch's
margin between the two: rounding turns near-ties, a wrong file turns clear decisions. After the first difference
the two write on different prefixes, so `forced_agreement` asks the file for its choice at every position of
torch's own answer instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from star_edge.calls.match import same_calls
from star_edge.calls.parse import parse_completion
from star_edge.contracts import Generation, TokenDifference
from star_edge.models.generate import next_token_logits
from star_edge.models.load import LoadedModel

NO_TOKEN = -1  # where a file's answer broke off


class Follower(Protocol):
    """The one thing asked of an open runtime here."""

    def follow(self, prompt_ids: Sequence[int], forced: Sequence[int]) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far a file agrees with torch on n cases.

    agreement, same_calls: shares of cases with the same greedy tokens, and with the same parsed calls.
    forced_agreement: share of the `forced_positions` tokens of torch's answers (end tokens included) that the
        file would choose too, given torch's tokens before them; null when no runtime was at hand.
    differences: every case that is not token for token the same.
    """

    label: str
    n: int
    agreement: float
    same_calls: float
    forced_agreement: float | None
    forced_positions: int
    differences: tuple[TokenDifference, ...]

    @property
    def largest_margin(self) -> float:
        """The clearest of torch's decisions that the file overturned, in nats; 0.0 when there is none."""
        return max((difference.torch_margin for difference in self.differences), default=0.0)


def compare(
    loaded: LoadedModel,
    prompts: Mapping[str, str],
    torch_generations: Sequence[Generation],
    file_generations: Sequence[Generation],
    *,
    label: str,
    runtime: Follower | None = None,
) -> ParityReport:
    """Compare the answers of a file with torch's on the cases that the file answered.

    Args:
        loaded: the checkpoint in torch; asked once for each case that differs.
        prompts: rendered prompt text by case id.
        torch_generations: torch's greedy answers; more cases than the file's are fine.
        runtime: the open file; only cases that differ cost it anything, the others agree everywhere.
    Raises: KeyError: a case of the file has no prompt or no answer from torch.
    """
    torch_by_id = {generation.id: generation for generation in torch_generations}
    differences: list[TokenDifference] = []
    calls = positions = followed = 0
    for answer in file_generations:
        reference = torch_by_id[answer.id]
        prompt_ids = _ids(loaded, prompts[answer.id])
        difference = _difference(loaded, prompt_ids, reference, answer)
        told = _with_end(reference, loaded)
        positions += len(told)
        calls += same_outcome(reference.text, answer.text)
        if difference is None:
            followed += len(told)
            continue
        differences.append(difference)
        if runtime is not None:
            choices = runtime.follow(prompt_ids, told)
            followed += sum(a == b for a, b in zip(choices, told, strict=True))
    n = len(file_generations)
    return ParityReport(
        label=label,
        n=n,
        agreement=(n - len(differences)) / n if n else 0.0,
        same_calls=calls / n if n else 0.0,
        forced_agreement=followed / positions if positions and (runtime or not differences) else None,
        forced_positions=positions,
        differences=tuple(differences),
    )


def same_outcome(a: str, b: str) -> bool:
    """True when two completions parse to the same calls, or are malformed both; the words of a reply do not count."""
    first, second = parse_completion(a), parse_completion(b)
    return first.is_malformed == second.is_malformed and same_calls(first.calls, second.calls)


def first_difference(told: Sequence[int], said: Sequence[int]) -> int | None:
    """First position at which what the file said parts from what torch told; None when it said all of it.

    Both were made under the same limit of new tokens and carry their end token where they ended by themselves: an
    answer of the file that breaks off before torch's had no room in its context, and parts there.
    """
    place = next((place for place, (x, y) in enumerate(zip(told, said, strict=False)) if x != y), None)
    return len(said) if place is None and len(said) < len(told) else place


def _difference(
    loaded: LoadedModel, prompt_ids: Sequence[int], reference: Generation, answer: Generation
) -> TokenDifference | None:
    told, said = _with_end(reference, loaded), _with_end(answer, loaded)
    position = first_difference(told, said)
    if position is None:
        return None
    torch_token = told[position]
    file_token = said[position] if position < len(said) else NO_TOKEN
    margin = 0.0
    if file_token != NO_TOKEN:
        logits = next_token_logits(loaded, [*prompt_ids, *told[:position]])
        margin = float(logits[torch_token] - logits[file_token])
    return TokenDifference(
        id=answer.id,
        position=position,
        torch_token=torch_token,
        file_token=file_token,
        torch_margin=max(margin, 0.0),  # batching may have turned an exact tie in torch itself
        same_calls=same_outcome(reference.text, answer.text),
        torch_text=loaded.tokenizer.decode([torch_token]),
        file_text="" if file_token == NO_TOKEN else loaded.tokenizer.decode([file_token]),
    )


def _with_end(generation: Generation, loaded: LoadedModel) -> list[int]:
    """The tokens of an answer, the end token last where it ended by itself."""
    end = [loaded.stop_token_ids[0]] if generation.stopped else []
    return [*generation.token_ids, *end]


def _ids(loaded: LoadedModel, text: str) -> list[int]:
    return list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
