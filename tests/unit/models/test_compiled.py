from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import flex_attention as flex

from star_edge.contracts import Checkpoint, TuningConfig
from star_edge.errors import RuntimeMissing
from star_edge.models import compiled, packing
from star_edge.models.compiled import compile_layers
from star_edge.models.load import load
from star_edge.models.packing import MODEL_INPUTS, add_counted_forward, pack
from star_edge.models.tuning import attach

LORA = TuningConfig(rank=4, alpha=8, last_layers=1)
FULL = TuningConfig(method="full")
graphs: list[int] = []


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Trace and differentiate graphs as for a GPU, flex_attention in them, but run them operation by operation."""
    graphs.clear()

    def backend(graph, inputs):
        graphs.append(len(inputs))
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    torch._dynamo.reset()
    monkeypatch.setattr(
        compiled, "torch", SimpleNamespace(compile=partial(torch.compile, backend=backend), _dynamo=torch._dynamo)
    )
    monkeypatch.setattr(compiled, "has_triton", lambda: True)
    monkeypatch.setattr(packing, "uses_flex", lambda device: True)
    monkeypatch.setattr(flex, "_validate_device", lambda *tensors: None)


def batches():
    generator = torch.Generator().manual_seed(0)
    draw = lambda length: tuple(torch.randint(3, 700, (length,), generator=generator).tolist())  # noqa: E731
    for length in (200, 300, 450):  # padded to 384, 512 and 640
        prompt = draw(length)
        yield pack([(prompt, draw(9)), (prompt, draw(5)), (draw(70), draw(3))])


def losses_and_gradients(folder, tuning, *, compiles):
    loaded = load(Checkpoint(folder, "base"), device="cpu", trainable=True)
    torch.manual_seed(0)
    model = attach(loaded.model, tuning, loaded.tokenizer)
    add_counted_forward(model)
    if compiles:
        compile_layers(model)
    names = set(model.state_dict())
    losses = []
    for batch in batches():
        logits = model(**{name: batch[name] for name in MODEL_INPUTS}, then=lambda hidden, head: hidden @ head.T)
        losses.append(torch.nn.functional.cross_entropy(logits, batch["labels"]))
        losses[-1].backward()
    assert set(model.state_dict()) == names
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return model, [loss.detach() for loss in losses], gradients


@pytest.mark.slow
@pytest.mark.parametrize(("tuning", "kinds"), [(FULL, 1), (LORA, 2)], ids=["full", "lora"])
def test_compiled_layers_give_the_losses_and_gradients_of_plain_ones(tiny_qwen2, as_on_a_gpu, tuning, kinds):
    _, expected, gradients = losses_and_gradients(tiny_qwen2, tuning, compiles=False)
    assert graphs == []
    model, losses, same = losses_and_gradients(tiny_qwen2, tuning, compiles=True)
    torch.testing.assert_close(losses, expected)
    assert gradients.keys() == same.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-3, atol=1e-5)
    assert len(graphs) == kinds  # for both layers and all three lengths
    model(input_ids=torch.arange(5)[None])
    assert len(graphs) == kinds, "a forward that is not packed must not be compiled"


def test_compiling_without_triton_is_refused(tiny_student, monkeypatch):
    monkeypatch.setattr(compiled, "has_triton", lambda: False)
    model = load(Checkpoint(tiny_student, "base"), device="cpu").model
    with pytest.raises(RuntimeMissing, match="compile needs triton"):
        compile_layers(model)
