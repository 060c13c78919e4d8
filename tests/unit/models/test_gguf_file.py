from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_gguf import add_tensor

from star_edge.errors import ModelError
from star_edge.models.gguf_file import GgufFile

TYPES = ("F32", "F16", "Q8_0", "Q5_0", "Q4_0", "Q4_1", "BF16")
SHAPE = (3, 64)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with an entry of each type and a tensor of several."""
    out = tmp_path_factory.mktemp("gguf") / "all.gguf"
    writer = gguf.GGUFWriter(out, "llama")
    for number, kind in enumerate(("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"), start=3):
        getattr(writer, f"add_{kind}")(f"a.{kind}", number)
    writer.add_float32("a.float32", 0.5)
    writer.add_float64("a.float64", 0.1)
    writer.add_bool("a.bool", True)
    writer.add_string("a.string", "naïve 日本 🚀")
    writer.add_array("a.strings", ["x", "", "ü"])
    writer.add_array("a.numbers", [1, -2, 3])
    writer.add_array("a.floats", [0.5, 1.5])
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    for name in TYPES:
        add_tensor(writer, name, values, gguf.GGMLQuantizationType[name])
    add_tensor(writer, "vector", values[0], gguf.GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def test_entries_keep_their_types(path: Path) -> None:
    found = GgufFile(path).metadata
    numbers = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
    assert [found[f"a.{kind}"] for kind in numbers] == list(range(3, 11))
    assert found["a.float32"] == 0.5
    assert found["a.float64"] == 0.1
    assert found["a.bool"] is True
    assert found["a.string"] == "naïve 日本 🚀"
    assert found["a.strings"] == ["x", "", "ü"]
    assert found["a.numbers"] == [1, -2, 3]
    assert found["a.floats"] == [0.5, 1.5]


@pytest.mark.parametrize("name", TYPES)
def test_tensors_read_as_the_gguf_packages_own_reader_reads_them(path: Path, name: str) -> None:
    (expected,) = (tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == name)
    file = GgufFile(path)
    found = file.tensor(name)
    assert (found.shape, found.dtype) == (SHAPE, np.float32)
    assert (file.tensors[name].shape, file.tensors[name].offset) == (SHAPE, expected.data_offset)
    np.testing.assert_array_equal(found, gguf.dequantize(expected.data, expected.tensor_type))
    np.testing.assert_array_equal(file.tensor(name, step=3), found[::3])


def test_bits_per_weight_count_the_scales(path: Path) -> None:
    records = GgufFile(path).tensors
    assert {name: records[name].bits_per_weight for name in ("F32", "F16", "Q8_0", "Q5_0", "Q4_0")} == {
        "F32": 32.0,
        "F16": 16.0,
        "Q8_0": 8.5,
        "Q5_0": 5.5,
        "Q4_0": 4.5,
    }


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.1, 0.25, 0.4, 0.5, 0.75, 0.9, 0.999])
def test_file_cut_anywhere_is_one_line(path: Path, tmp_path: Path, share: float) -> None:
    whole = path.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * share) or 1])
    with pytest.raises(ModelError, match=r"cut\.gguf: (GGUF file is cut short|not a GGUF file)") as caught:
        GgufFile(tmp_path / "cut.gguf")
    assert "\n" not in str(caught.value)


def test_half_a_file_names_the_tensor_that_is_not_there(path: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(path.read_bytes()[:-600])
    with pytest.raises(ModelError, match=r"cut short or damaged \(\w+ ends at byte [\d,]+, the file at [\d,]+\)"):
        GgufFile(tmp_path / "cut.gguf")


@pytest.mark.parametrize("seed", range(20))
def test_noise_in_the_header_never_crashes(path: Path, tmp_path: Path, seed: int) -> None:
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(seed)
    for _ in range(8):
        data[random.integers(4, 900)] = random.integers(0, 256)
    (tmp_path / "noisy.gguf").write_bytes(data)
    try:
        GgufFile(tmp_path / "noisy.gguf")
    except ModelError as error:
        assert "noisy.gguf" in str(error)  # noqa: PT017 (noise may also leave a file that reads)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"GIF89a and more of it", "not a GGUF file"),
        (b"GGUF\x09\x00\x00\x00" + bytes(64), "version 9 is not known"),
        (b"GGUF\x00\x00\x00\x03" + bytes(64), "version 50331648 is not known"),
    ],
    ids=["empty", "another format", "future version", "big endian"],
)
def test_foreign_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        GgufFile(tmp_path / "x.gguf")
    assert "\n" not in str(caught.value)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.gguf: cannot be read"):
        GgufFile(tmp_path / "none.gguf")
