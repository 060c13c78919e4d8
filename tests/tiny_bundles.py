"""Bundles of the tiny models, made by the real exporters in a second or two."""

from __future__ import annotations

from pathlib import Path

from star_edge.contracts import Bundle, Example


def write_gguf_bundle(student: Path, folder: Path, quantization: str = "F16") -> Bundle:
    """A GGUF bundle of a model folder."""
    from star_edge_export.bundle import write_bundle
    from star_edge_export.gguf import export_gguf
    from star_edge_export.quantize import quantize_gguf

    folder.mkdir(parents=True)
    if quantization == "F16":
        export_gguf(student, folder / "model.gguf")
    else:
        source = folder.parent / f"{folder.name}-f16.gguf"
        export_gguf(student, source)
        quantize_gguf(source, folder / "model.gguf", quantization)
    return write_bundle(folder, student, format="gguf", quantization=quantization)


def write_onnx_bundle(student: Path, folder: Path, quantization: str = "fp32") -> Bundle:
    """An ONNX bundle of a model folder."""
    from star_edge_export.bundle import write_bundle
    from star_edge_export.onnx import export_onnx, quantize_int8

    if quantization == "fp32":
        export_onnx(student, folder)
    else:
        source = export_onnx(student, folder.parent / f"{folder.name}-fp32")
        quantize_int8(source, folder / "model.onnx")
    return write_bundle(folder, student, format="onnx", quantization=quantization)


def requests(count: int) -> list[Example]:
    """Examples about one tool, each with another request."""
    properties = {"room": {"type": "string"}, "level": {"type": "integer"}}
    parameters = {"type": "object", "properties": properties, "required": ["room"]}
    tool = {"name": "set_light", "description": "Set the lights of a room.", "parameters": parameters}
    rows = []
    for number in range(count):
        call = {"name": "set_light", "arguments": {"room": "kitchen", "level": number}}
        asked = {"role": "user", "content": f"Please set the kitchen lights to {number * 7} %, café ☕ 厨房."}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        rows.append(Example(f"request-{number}", "test", (asked, answer), (tool,)))
    return rows
