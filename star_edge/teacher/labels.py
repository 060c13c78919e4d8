"""What a teacher thinks of the answers that rows have: no sampling, and as many prompts as it can read in the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from star_edge.contracts import Example
from star_edge.data.chat import ChatCodec
from star_edge.teacher.rollout import Rollout
from star_edge.teacher.scoring import Scorer


def read_labels(scorer: Scorer, codec: ChatCodec, examples: Sequence[Example]) -> Iterator[Rollout]:
    """Each row's own answer as a completion, with the teacher's distribution at every position of it.

    Raises: DataError: the template refuses a row.
    """
    encoded = codec.encode_all(examples)
    scored = scorer([(row.prompt_ids, [row.completion_ids]) for row in encoded])
    for row, ((topk_ids, topk_logprobs),) in zip(encoded, scored, strict=True):
        text = codec.tokenizer.decode(list(row.completion_ids[:-1]), skip_special_tokens=False)
        yield Rollout(row.id, row.prompt_ids, row.completion_ids, text, topk_ids, topk_logprobs)
