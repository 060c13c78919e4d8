"""All backends answer the same prompts alike: one model in transformers, llama.cpp, ONNX Runtime and (a fake) vLLM."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import fake_vllm
import pytest
from tiny_bundles import requests

from star_edge.answering.backend import Backend
from star_edge.answering.file_backend import bundle_backend, gguf_backend
from star_edge.answering.torch_backend import TransformersBackend
from star_edge.answering.vllm_backend import VllmBackend
from star_edge.contracts import Bundle, Generation
from star_edge.errors import ModelError
from star_edge.models.folder import stop_token_ids
from star_edge.models.load import load_tokenizer

NEW_TOKENS = 12


@pytest.fixture
def reference(tiny_student: Path) -> list[Generation]:
    backend = TransformersBackend(tiny_student, device="cpu", rows_per_forward=4)
    return answers(backend)


def answers(backend: Backend, *, max_new_tokens: int = NEW_TOKENS, extra: str = "") -> list[Generation]:
    prompts = [(example.id, backend.prompt_text(example) + extra) for example in requests(4)]
    with closing(backend):
        found = {g.id: g for g in backend.answer(prompts, max_new_tokens=max_new_tokens)}
    return [found[id] for id, _ in prompts]


def gist(generations: list[Generation]) -> list[tuple[object, ...]]:
    return [(g.id, g.text, g.token_ids, g.prompt_tokens, g.stopped) for g in generations]


def test_a_bundle_and_its_bare_file_answer_as_torch(gguf_bundle: Bundle, reference: list[Generation]) -> None:
    assert gist(answers(bundle_backend(gguf_bundle.folder, "auto", threads=1))) == gist(reference)
    assert gist(answers(gguf_backend(gguf_bundle.file, "auto", threads=1))) == gist(reference)


def test_an_onnx_bundle_answers_as_torch(onnx_bundle: Bundle, reference: list[Generation]) -> None:
    assert gist(answers(bundle_backend(onnx_bundle.folder, "auto", threads=1))) == gist(reference)


def test_vllm_gets_our_tokens_and_gives_our_text(
    tiny_student: Path, reference: list[Generation], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(reference)
    fake = fake_vllm.install(monkeypatch, lambda *_: next(told).token_ids)
    backend = VllmBackend(tiny_student)
    found = answers(backend, max_new_tokens=NEW_TOKENS + 1)
    assert gist(found) == [(*row[:4], True) for row in gist(reference)]
    tokenizer = load_tokenizer(tiny_student)
    asked = [backend.prompt_text(example) for example in requests(4)]
    assert fake.calls[0][0] == [tokenizer.encode(text, add_special_tokens=False) for text in asked]
    assert fake.loaded["max_model_len"] == max(map(len, fake.calls[0][0])) + NEW_TOKENS + 1
    assert fake.shutdowns == 1


@pytest.mark.parametrize("kind", ["vllm", "file"])
def test_the_engines_start_is_told_apart_from_the_answers(
    kind: str, tiny_student: Path, gguf_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 900, 9))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    fake_vllm.install(monkeypatch, lambda *_: [5])
    backend = MAKERS[kind](tiny_student, gguf_bundle)
    assert backend.start_up_s == 0
    with closing(backend):
        list(backend.answer([("one", "turn on the lights")], max_new_tokens=2))
    assert backend.start_up_s >= 9


def test_vllm_answers_reach_the_disk_in_portions(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_edge.answering.vllm_backend.PROMPTS_PER_CALL", 3)
    fake = fake_vllm.install(monkeypatch, lambda *_: [5])
    backend = VllmBackend(tiny_student, memory_share=0.4)
    prompts = [(str(number), "turn on the lights") for number in range(7)]
    with closing(backend):
        stream = backend.answer(prompts, max_new_tokens=4)
        next(stream)
        assert len(fake.calls) == 1
        assert len(list(stream)) == 6
    assert [len(call[0]) for call in fake.calls] == [3, 3, 1]
    assert fake.loaded["gpu_memory_utilization"] == 0.4


Make = Callable[[Path, Bundle], Backend]
MAKERS: dict[str, Make] = {
    "transformers": lambda folder, _: TransformersBackend(folder, device="cpu", rows_per_forward=4),
    "vllm": lambda folder, _: VllmBackend(folder),
    "file": lambda _, bundle: bundle_backend(bundle.folder, "auto", threads=1),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_prompt_without_room_is_answered_by_nothing(
    make: Make, tiny_student: Path, gguf_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm.install(monkeypatch, lambda *_: [5])
    backend = make(tiny_student, gguf_bundle)
    prompts = [("long", "turn on the lights " * 400), ("short", "turn on the lights")]
    with closing(backend):
        found = {generation.id: generation for generation in backend.answer(prompts, max_new_tokens=3)}
    assert (found["long"].text, found["long"].stopped) == ("", False)
    assert found["long"].prompt_tokens > 512
    assert found["short"].token_ids


def test_templates_are_the_ones_asked_for(tiny_student: Path, tmp_path: Path) -> None:
    from tiny_gguf import rewrite

    from star_edge_export.gguf import export_gguf

    own = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
    export_gguf(tiny_student, tmp_path / "model.gguf")
    file = rewrite(tmp_path / "model.gguf", tmp_path / "own.gguf", entries={"tokenizer.chat_template": own})
    bare = rewrite(tmp_path / "model.gguf", tmp_path / "none.gguf", entries={"tokenizer.chat_template": None})
    example = requests(1)[0]
    hermes = gguf_backend(file, "hermes", threads=1).prompt_text(example)
    assert "<tools>" in hermes
    assert gguf_backend(file, "auto", threads=1).prompt_text(example) == hermes  # its own leaves out the tools
    assert gguf_backend(bare, "auto", threads=1).prompt_text(example) == hermes
    assert gguf_backend(file, "model", threads=1).prompt_text(example).startswith("<|im_start|>user Please")
    with pytest.raises(ModelError, match="no chat template in it; give --chat-template hermes"):
        gguf_backend(bare, "model", threads=1)


def test_our_template_ends_a_turn_where_the_file_does_not(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_gguf import rewrite

    from star_edge_device.runtimes import open_runtime
    from star_edge_export.gguf import export_gguf

    export_gguf(tiny_student, tmp_path / "model.gguf")
    file = rewrite(tmp_path / "model.gguf", tmp_path / "other.gguf", entries={"tokenizer.ggml.eos_token_id": 0})
    opened = []

    def watched(*args: object, **kwargs: object) -> object:
        opened.append(open_runtime(*args, **kwargs))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr("star_edge.answering.file_backend.open_runtime", watched)
    answers(gguf_backend(file, "hermes", threads=1))
    assert opened[-1].stop_ids == {0, stop_token_ids(tiny_student)[0]}
