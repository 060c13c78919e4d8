"""What a file must not do before it is called exported."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_bundles import requests

from star_edge.contracts import Bundle, Generation, TokenDifference
from star_edge.data.chat import ChatCodec
from star_edge.errors import ExportError
from star_edge.models.generate import greedy
from star_edge.models.load import LoadedModel
from star_edge.parity.check import check_file, refuse_clear_differences
from star_edge.parity.compare import ParityReport
from star_edge_device.gates import LARGEST_OVERTURNED_MARGIN

EXAMPLES = requests(2)
LIMITS = {"threads": 1, "max_new_tokens": 5}


@pytest.fixture(scope="module")
def answers(student: LoadedModel) -> list[Generation]:
    codec = ChatCodec(student.tokenizer, student.template)
    prompts = [(example.id, codec.prompt_text(example)) for example in EXAMPLES]
    return greedy(student, prompts, max_new_tokens=5, rows_per_forward=1)


@pytest.fixture
def spoilt(gguf_bundle: Bundle, tmp_path: Path) -> Callable[[str, Callable[[str], str]], Bundle]:
    """The bundle with one text file rewritten."""

    def make(name: str, change: Callable[[str], str]) -> Bundle:
        folder = tmp_path / "spoilt"
        shutil.copytree(gguf_bundle.folder, folder)
        (folder / name).write_text(change((folder / name).read_text()))
        return dataclasses.replace(gguf_bundle, folder=folder, file=folder / gguf_bundle.file.name)

    return make


def report_with(margin: float) -> ParityReport:
    difference = TokenDifference("request-1", 4, 1, 2, margin, False, "yes", "no")
    return ParityReport("f", 1, 0.0, 0.0, 0.9, 10, (difference,))


def test_a_true_export_passes_and_its_answers_are_kept(
    gguf_bundle: Bundle, student: LoadedModel, answers: list[Generation], tmp_path: Path
) -> None:
    report = check_file(gguf_bundle, student, EXAMPLES, answers, tmp_path, **LIMITS)
    assert (report.n, report.agreement, report.forced_agreement) == (2, 1.0, 1.0)
    stored = [json.loads(line) for line in (tmp_path / "generations.jsonl").read_text().splitlines()]
    assert [tuple(line["generation"]["token_ids"]) for line in stored] == [answer.token_ids for answer in answers]


def test_file_of_other_weights_is_refused(
    student: LoadedModel, answers: list[Generation], tiny_student: Path, tmp_path: Path
) -> None:
    from tiny_bundles import write_gguf_bundle
    from tiny_models import write_tiny_llama

    other = write_gguf_bundle(write_tiny_llama(tmp_path / "other", student.template, seed=1), tmp_path / "gguf-F16")
    with pytest.raises(ExportError, match="the exported weights are wrong") as raised:
        check_file(other, student, EXAMPLES, answers, tmp_path / "out", **LIMITS)
    assert "\n" not in str(raised.value)
    lossy = dataclasses.replace(other, quantization="Q4_K_M")  # what few bits cost is measured, not refused
    assert check_file(lossy, student, EXAMPLES, answers, tmp_path / "out", **LIMITS).agreement == 0.0


@pytest.mark.parametrize("quantization", ["fp32", "F16", "Q8_0"])
def test_lossless_file_may_overturn_a_tie_but_no_clear_decision(quantization: str, gguf_bundle: Bundle) -> None:
    bundle = dataclasses.replace(gguf_bundle, quantization=quantization)
    limit = LARGEST_OVERTURNED_MARGIN[quantization]
    refuse_clear_differences(bundle, report_with(limit * 0.99))
    with pytest.raises(ExportError, match=r"case request-1, token 4: the file says 'no' where torch says 'yes'"):
        refuse_clear_differences(bundle, report_with(limit * 1.01))


def test_a_lossy_file_is_measured_and_not_refused(gguf_bundle: Bundle) -> None:
    refuse_clear_differences(dataclasses.replace(gguf_bundle, quantization="Q4_K_M"), report_with(50.0))


def test_file_with_another_tokenizer_is_refused_whatever_its_bits(
    gguf_bundle: Bundle, tiny_qwen2: Path, student: LoadedModel, answers: list[Generation], tmp_path: Path
) -> None:
    from tiny_bundles import write_gguf_bundle

    other = write_gguf_bundle(tiny_qwen2, tmp_path / "gguf-F16")
    other = dataclasses.replace(other, quantization="Q4_K_M")
    with pytest.raises(ExportError, match=r"reads the prompt as \d+ tokens, torch as \d+, different from token \d+ on"):
        check_file(other, student, EXAMPLES, answers, tmp_path / "out", **LIMITS)


def test_bundle_with_another_template_is_refused(
    spoilt: Callable[..., Bundle], student: LoadedModel, answers: list[Generation], tmp_path: Path
) -> None:
    bundle = spoilt("chat_template.jinja", lambda text: "!" + text)
    with pytest.raises(ExportError, match="chat template writes another prompt"):
        check_file(bundle, student, EXAMPLES, answers, tmp_path / "out", **LIMITS)


def test_file_that_does_not_open_is_refused_in_one_line(
    gguf_bundle: Bundle, student: LoadedModel, answers: list[Generation], tmp_path: Path
) -> None:
    cut = tmp_path / "model.gguf"
    cut.write_bytes(gguf_bundle.file.read_bytes()[:3000])
    bundle = dataclasses.replace(gguf_bundle, file=cut)
    with pytest.raises(ExportError, match=r"llama\.cpp cannot load it") as raised:
        check_file(bundle, student, EXAMPLES, answers, tmp_path / "out", **LIMITS)
    assert "\n" not in str(raised.value)
