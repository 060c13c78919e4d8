import pytest
import torch

from star_edge.models.packed_attention import block_mask_of, documents_of, packed_attention_forward, padded_to_blocks
from star_edge.models.packing import pack

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize(("heads", "size"), [(14, 64), (12, 128)])
def test_the_kernels_agree_with_attention_document_by_document(heads, size):
    """Forwards and backwards, with completions that share a prompt, at lengths that cut blocks anywhere."""
    generator = torch.Generator("cuda").manual_seed(0)
    lengths = [(300, (5, 40)), (77, (130,)), (1, (1, 1, 1)), (520, (64,))]
    batch = pack([([1] * prompt, [2] * each) for prompt, completions in lengths for each in completions])
    visible = padded_to_blocks(batch["input_ids"], batch["positions"], batch["visible"])[2].cuda()
    draw = lambda count: torch.randn(  # noqa: E731
        1, count, visible.shape[1], size, device="cuda", dtype=torch.bfloat16, generator=generator, requires_grad=True
    )
    states, gradient = [draw(count) for count in (heads, 2, 2)], draw(heads).detach().transpose(1, 2)

    class Module:
        num_key_value_groups = heads // 2
        is_causal = True

    results = []
    for packing in (block_mask_of(visible), documents_of(visible)):
        output, _ = packed_attention_forward(Module(), *states, None, packing=packing, scaling=size**-0.5)
        results.append([output, *torch.autograd.grad(output, states, gradient)])
    for ours, expected in zip(*results, strict=True):
        assert (ours - expected).float().norm() < 0.02 * expected.float().norm()
