import pytest
import torch
from torch.nn.attention import flex_attention as flex

from star_edge.contracts import Checkpoint
from star_edge.models import packing
from star_edge.models.load import load
from star_edge.models.packed_attention import BLOCK, block_mask_of, documents_of, kernel_options, padded_to_blocks
from star_edge.models.packing import MODEL_INPUTS, add_counted_forward, pack

ROWS = [((5, 6), (1, 2)), ((5, 6), (3,)), ((9,), (4, 5))]


def long_rows():
    """Five prompts of up to 150 tokens with one to three completions of up to 40."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda length: tuple(torch.randint(3, 700, (length,), generator=generator).tolist())  # noqa: E731
    return [
        (prompt, draw(5 + 7 * n)) for n, prompt in enumerate(map(draw, (150, 30, 90, 7, 61))) for _ in range(1 + n % 3)
    ]


def dense(visible):
    """What each token sees, from the documents."""
    seen = torch.zeros(visible.shape[1], visible.shape[1], dtype=torch.bool)
    for document in documents_of(visible):
        length = document.span.stop - document.span.start
        own = torch.ones(length, length).tril().bool() if document.mask is None else document.mask[0, 0]
        seen[document.span, document.span] = own
    return seen


def test_a_completion_sees_its_prompt_and_itself_but_no_other():
    assert dense(pack(ROWS)["visible"]).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ]


def test_a_document_with_one_completion_needs_no_mask():
    documents = documents_of(pack(ROWS)["visible"])
    assert [(document.span, document.mask is None) for document in documents] == [
        (slice(0, 5), False),
        (slice(5, 8), True),
    ]


def padded(batch):
    return padded_to_blocks(*(batch[name] for name in ("input_ids", "positions", "visible")))


def test_padding_sees_itself_alone():
    batch = pack(ROWS)
    ids, positions, visible = padded(batch)
    assert ids.shape == positions.shape == (1, BLOCK)
    seen = dense(visible)
    assert torch.equal(seen[:8, :8], dense(batch["visible"]))
    assert torch.equal(seen[8:], torch.eye(BLOCK, dtype=torch.bool)[8:])
    assert padded({"input_ids": ids, "positions": positions, "visible": visible})[0].shape == (1, BLOCK)


def test_the_block_mask_shows_what_the_documents_show():
    visible = padded(pack(long_rows()))[2]
    mask = block_mask_of(visible)
    length = visible.shape[1]
    assert torch.equal(flex.create_mask(mask.mask_mod, 1, 1, length, length, device="cpu")[0, 0], dense(visible))
    blocks = dense(visible).unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK).flatten(2).any(-1)
    assert torch.equal(mask.to_dense()[0, 0].bool(), blocks)
    assert not blocks.tril().all()


@pytest.mark.slow
def test_the_block_mask_is_the_one_torch_would_make_of_all_pairs():
    generator = torch.Generator().manual_seed(1)
    draw = lambda length: tuple(torch.randint(3, 700, (length,), generator=generator).tolist())  # noqa: E731
    prompts = [(draw(length), count) for length, count in ((700, 3), (128, 1), (1, 9), (300, 2), (256, 1))]
    rows = [(prompt, draw(200 + 150 * n)) for prompt, count in prompts for n in range(count)]
    visible = padded(pack(rows))[2]
    ours = block_mask_of(visible)
    theirs = flex.create_block_mask(ours.mask_mod, None, None, visible.shape[1], visible.shape[1], device="cpu")
    assert ours.shape == theirs.shape
    assert ours.full_kv_num_blocks.any()
    for name in ("kv", "full_kv", "q", "full_q"):
        counts, places = (getattr(ours, f"{name}_{what}") for what in ("num_blocks", "indices"))
        assert torch.equal(counts, getattr(theirs, f"{name}_num_blocks"))
        listed = torch.arange(places.shape[-1]) < counts[..., None]
        assert torch.equal(places[listed], getattr(theirs, f"{name}_indices")[listed])


@pytest.fixture
def flex_on_cpu(monkeypatch):
    """Let the CPU, which has flex_attention's plain formula but no kernel for its backward pass, use the formula."""
    monkeypatch.setattr(packing, "uses_flex", lambda device: True)
    monkeypatch.setattr(flex, "_validate_device", lambda *tensors: None)


def loss_and_gradients(folder, device="cpu"):
    model = load(Checkpoint(folder, "base"), device=device, trainable=True).model
    add_counted_forward(model)
    batch = {name: tensor.to(device) for name, tensor in pack(long_rows()).items()}
    logits = model(**{name: batch[name] for name in MODEL_INPUTS}, then=lambda hidden, head: hidden @ head.T)
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"])
    loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_student", "tiny_qwen2", "tiny_qwen3"])
def test_flex_attention_gives_the_loss_and_gradients_of_sdpa(model, request, monkeypatch):
    folder = request.getfixturevalue(model)
    expected, gradients = loss_and_gradients(folder)
    request.getfixturevalue("flex_on_cpu")
    seen = []
    monkeypatch.setattr(packing, "block_mask_of", lambda visible: seen.append(visible) or block_mask_of(visible))
    loss, same = loss_and_gradients(folder)
    assert len(seen) == 2  # the check of the head, and the batch
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_on_a_gpu_gives_the_loss_and_gradients_of_sdpa(tiny_qwen2):
    expected, gradients = loss_and_gradients(tiny_qwen2)
    loss, same = loss_and_gradients(tiny_qwen2, device="cuda")
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-3, atol=1e-3)
    for name, gradient in gradients.items():
        agreement = torch.nn.functional.cosine_similarity(same[name].cpu().flatten(), gradient.flatten(), dim=0)
        assert agreement > 0.999, name


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_measured_tiles_divide_the_blocks_that_masks_are_made_of(size, dtype):
    tiles = {name: value for name, value in kernel_options(size, dtype).items() if "BLOCK" in name}
    assert {"bwd_BLOCK_M1", "bwd_BLOCK_N1", "bwd_BLOCK_M2", "bwd_BLOCK_N2"} <= tiles.keys()
    assert all(BLOCK % value == 0 for value in tiles.values())


@pytest.mark.parametrize(("size", "dtype"), [(32, torch.bfloat16), (256, torch.bfloat16), (64, torch.float32)])
def test_other_heads_and_dtypes_keep_torchs_tiles(size, dtype):
    assert kernel_options(size, dtype) == {"IS_DIVISIBLE": True}
