"""The measuring process: what it does, what it leaves out, how it fails."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import requests

from star_edge.contracts import Bundle
from star_edge.errors import DataError, RuntimeFailure
from star_edge.manifest import plain
from star_edge_device.accuracy import run_in_subprocess
from star_edge_device.runtimes import open_runtime

LIMITS = {"threads": 1, "max_new_tokens": 6, "context_length": 512}


def test_fresh_process_gives_the_same_answers_and_leaves_store_and_latency(gguf_bundle: Bundle, tmp_path: Path) -> None:
    examples, seen = requests(3), []
    run = run_in_subprocess(gguf_bundle, examples, tmp_path, advance=seen.append, **LIMITS)
    runtime = open_runtime(gguf_bundle, threads=1, context_length=512)
    from star_edge_device.bundle_files import read_chat

    prompt = read_chat(gguf_bundle.folder).prompt(examples[0])
    expected = runtime.generate("x", prompt, max_new_tokens=6)
    runtime.close()
    assert [generation.id for generation in run.generations] == [example.id for example in examples]
    assert run.generations[0].token_ids == expected.token_ids
    assert seen == [1, 2, 3]
    assert (run.latency.n, run.latency.threads) == (2, 1)
    assert json.loads((tmp_path / "latency.json").read_text()) == plain(run.latency)
    assert len((tmp_path / "generations.jsonl").read_text().splitlines()) == 3

    before = (tmp_path / "generations.jsonl").read_bytes()
    again = run_in_subprocess(gguf_bundle, examples, tmp_path, **LIMITS)
    assert again.generations == run.generations
    assert (tmp_path / "generations.jsonl").read_bytes() == before


@pytest.mark.slow
def test_peak_memory_is_the_workers_own(gguf_bundle: Bundle, tmp_path: Path) -> None:
    ballast = np.ones(100_000_000)  # 800 MB that a child of ours would inherit in ru_maxrss
    run = run_in_subprocess(gguf_bundle, requests(1), tmp_path, **LIMITS)
    assert ballast.sum() > 0
    assert 20 < run.latency.peak_rss_mib < 500


def test_worker_never_loads_torch_or_the_scorer(gguf_bundle: Bundle, tmp_path: Path) -> None:
    request = {
        "bundle": plain(gguf_bundle),
        "examples": plain(requests(1)),
        **LIMITS,
        "out": str(tmp_path),
        "answer": str(tmp_path / "answer.json"),
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    code = (
        "import sys; from star_edge_device.worker import main; code = main(sys.argv[1:]);"
        "print([name for name in ('torch', 'transformers', 'scipy') if name in sys.modules], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "request.json")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ['{"done": 1}', "[] 0"]
    assert len(json.loads((tmp_path / "answer.json").read_text())["generations"]) == 1


def test_damaged_file_comes_back_as_one_line(gguf_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(gguf_bundle.folder, folder)
    file = folder / "model.gguf"
    file.write_bytes(file.read_bytes()[:5000])
    bundle = dataclasses.replace(gguf_bundle, folder=folder, file=file)
    with pytest.raises(RuntimeFailure, match=r"llama\.cpp cannot load it") as raised:
        run_in_subprocess(bundle, requests(1), tmp_path / "out", **LIMITS)
    assert "\n" not in str(raised.value)


def test_errors_keep_their_class(gguf_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(gguf_bundle.folder, folder)
    (folder / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(DataError, match="chat template refuses"):
        run_in_subprocess(dataclasses.replace(gguf_bundle, folder=folder), requests(1), tmp_path / "out", **LIMITS)


@pytest.mark.parametrize(
    ("crash", "text"), [("os.abort()", "ended by SIGABRT"), ("raise ValueError('odd')", r"ended with code 1 .*odd")]
)
def test_crash_of_the_process_is_told_in_one_line(
    crash: str, text: str, gguf_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "path" / "star_edge_device"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "worker.py").write_text(f"import os\nprint('a line of some engine', flush=True)\n{crash}\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    with pytest.raises(RuntimeFailure, match=text) as raised:
        run_in_subprocess(gguf_bundle, requests(1), tmp_path / "out", **LIMITS)
    assert "\n" not in str(raised.value)


def test_worker_ends_when_its_parent_does(gguf_bundle: Bundle, tmp_path: Path) -> None:
    request = {
        "bundle": plain(gguf_bundle),
        "examples": plain(requests(400)),
        **LIMITS,
        "out": str(tmp_path),
        "answer": str(tmp_path / "answer.json"),
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "-m", "star_edge_device.worker", str(tmp_path / "request.json"), "--with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b'{"done": 1}\n'
        process.stdin.close()  # what the system does to a pipe of a killed process
        started = time.monotonic()
        assert process.wait(timeout=20) == 1
        assert time.monotonic() - started < 10
    assert not (tmp_path / "answer.json").exists()
    assert os.path.getsize(tmp_path / "generations.jsonl") > 0


def test_worker_without_a_request_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    from star_edge_device.worker import main

    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err
