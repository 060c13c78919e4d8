"""The process that measures one bundle: `python -m star_edge_device.worker REQUEST.json`.

It holds the runtime and nothing else: no torch, no scorer. stdout is for `star_edge_device.accuracy`, a JSON
object a line: `{"done": n}` after each case, `{"failure": {"kind", "text"}}` at the end of a failed run.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from star_edge.contracts import Bundle, Example
from star_edge.errors import StarEdgeError
from star_edge.manifest import plain, read_json, write_atomic
from star_edge_device.accuracy import run_cases
from star_edge_device.bundle_files import read_chat
from star_edge_device.latency import summarise
from star_edge_device.runtimes import open_runtime

WITH_PARENT = "--with-parent"


def run(request: dict[str, Any]) -> None:
    """Do what a request asks (its fields: `accuracy.run_in_subprocess`); write latency and answer, whole.

    Raises: StarEdgeError: whatever the bundle, the runtime or the store raise.
    """
    bundle = _bundle(request["bundle"])
    examples = [_example(row) for row in request["examples"]]
    out = Path(request["out"])
    chat = read_chat(bundle.folder)
    runtime = open_runtime(bundle, threads=request["threads"], context_length=request["context_length"])
    try:
        measurements = run_cases(
            runtime,
            examples,
            chat,
            max_new_tokens=request["max_new_tokens"],
            store=out / "generations.jsonl",
            advance=lambda done: _say({"done": done}),
        )
        latency = summarise(
            measurements, runtime=runtime.name, threads=request["threads"], size_bytes=bundle.size_bytes
        )
    finally:
        runtime.close()
    write_atomic(out / "latency.json", json.dumps(plain(latency), indent=1) + "\n")
    answer = {"generations": [entry.generation for entry in measurements], "latency": latency}
    write_atomic(Path(request["answer"]), json.dumps(plain(answer), ensure_ascii=False))


def main(arguments: list[str]) -> int:
    """Exit code 0 when everything was measured, 1 after a failure that has been reported, 2 for misuse."""
    paths = [argument for argument in arguments if argument != WITH_PARENT]
    if len(paths) != 1:
        print(f"usage: python -m star_edge_device.worker REQUEST.json [{WITH_PARENT}]", file=sys.stderr)
        return 2
    if WITH_PARENT in arguments:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run(read_json(Path(paths[0])))
    except StarEdgeError as error:
        _say({"failure": {"kind": type(error).__name__, "text": str(error)}})
        return 1
    return 0


def _end_with_parent() -> None:
    """Wait for the parent's end of stdin to close, and go: a killed run must not leave a writer behind."""
    os.read(0, 1)  # not sys.stdin: a thread inside its lock would abort the interpreter's own exit
    os._exit(1)


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _bundle(fields: dict[str, Any]) -> Bundle:
    return Bundle(**{**fields, "folder": Path(fields["folder"]), "file": Path(fields["file"])})


def _example(row: dict[str, Any]) -> Example:
    return Example(**{**row, "messages": tuple(row["messages"]), "tools": tuple(row["tools"])})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
