import pytest
import torch

from star_edge.teacher.signal import float32_product, multiplies_into_float32

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_bfloat16_factors_give_logits_as_exact_as_float32_ones():
    generator = torch.Generator("cuda").manual_seed(0)
    states, weight = (torch.randn(rows, 1536, device="cuda", generator=generator).bfloat16() for rows in (64, 5000))
    if not multiplies_into_float32(states):
        pytest.skip("this torch has no product of bfloat16 into float32")
    exact = states.double() @ weight.double().T
    narrow, wide = float32_product(states, weight), float32_product(states, weight.float())
    assert narrow.dtype == torch.float32
    assert (narrow - exact).abs().max() < 10 * (wide - exact).abs().max() + 1e-3
    assert ((states @ weight.T).double() - exact).abs().max() > 0.05
