"""What GRPO asks a policy for: log-probabilities of its own tokens, and the policy as it was in the beginning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def token_logprobs(
    hidden: Tensor, head: Tensor, labels: Tensor, *, temperature: float, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Log-probability of each label and the entropy beside it, holding the logits of one chunk at a time.

    Args:
        hidden: (N, H) states that predict the labels. head: (V, H). labels: (N,) token ids.
        temperature: logits are divided by it, as they were when the labels were sampled.
    Returns: (N,) float32 log-probabilities, differentiable, and (N,) entropies in nats, which carry no gradient.
    """

    def piece(states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = ((states @ head.T).float() / temperature).log_softmax(dim=-1)
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(dim=-1)
        return logprobs.gather(1, tokens[:, None])[:, 0], entropy

    pieces = [
        checkpoint(piece, states, tokens, use_reentrant=False)
        for states, tokens in zip(torch.split(hidden, chunk), torch.split(labels, chunk), strict=True)
    ]
    logprobs, entropies = zip(*pieces, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


class PolicyAsItCame:
    """The reference policy: the model with its trainable weights put back to what they were, for one forward.

    Only the trainable weights are kept twice, which for LoRA is next to nothing, and a trained adapter is its own
    reference. (TRL keeps such a reference as a second adapter, which leaves out trained token embeddings, and whose
    presence in a checkpoint makes the Trainer resume without the first.)
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._initial = [(weight, weight.detach().clone()) for weight in model.parameters() if weight.requires_grad]

    @torch.no_grad()
    def __call__(self, **inputs: Any) -> Any:
        """The model's answer to `inputs` with the initial weights."""
        current = [weight.data for weight, _ in self._initial]
        try:
            for weight, initial in self._initial:
                weight.data = initial
            return self._model(**inputs)
        finally:
            for (weight, _), data in zip(self._initial, current, strict=True):
                weight.data = data
