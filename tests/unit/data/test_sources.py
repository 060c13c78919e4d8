"""Lines of plain and compressed files, good and bad."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from star_edge.data.sources import BadRow, count_lines, read_rows
from star_edge.errors import DataError

LINES = b'{"a": 1}\n\n{"a": "\xc3\xa9"}\n'


@pytest.fixture(params=["rows.jsonl", "rows.jsonl.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def write(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_rows_come_with_their_line_and_empty_lines_are_passed_over(path: Path) -> None:
    write(path, LINES)

    assert list(read_rows(path)) == [(1, {"a": 1}), (3, {"a": "é"})]
    assert count_lines(path) == 3


def test_byte_order_mark_is_no_part_of_the_first_row(path: Path) -> None:
    write(path, b"\xef\xbb\xbf" + LINES)

    assert next(read_rows(path)) == (1, {"a": 1})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "broken JSON"),
        (b'{"a": NaN}', "broken JSON"),
        (b'{"a": "\xff"}', "broken JSON"),
        (b'{"a": 1} {"a": 2}', "broken JSON"),
        (b"[1, 2]", "must be a JSON object, not list"),
        (b"null", "must be a JSON object, not NoneType"),
    ],
)
def test_unreadable_line_is_one_bad_row_among_good_ones(path: Path, line: bytes, reason: str) -> None:
    write(path, b'{"a": 1}\n' + line + b'\n{"a": 3}\n')

    rows = dict(read_rows(path))

    assert rows[1] == {"a": 1}
    assert rows[3] == {"a": 3}
    assert isinstance(rows[2], BadRow)
    assert reason in rows[2].reason
    assert str(rows[2]).startswith(f"{path}:2: ")


def test_missing_file_is_named(path: Path) -> None:
    with pytest.raises(DataError, match=f"{path.name}: cannot read .No such file"):
        list(read_rows(path))


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        list(read_rows(tmp_path))


def test_cut_gzip_is_refused_after_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-9])

    with pytest.raises(DataError, match=r"damaged or cut gzip after line \d+"):
        list(read_rows(path))


def test_plain_text_named_gz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(LINES)

    with pytest.raises(DataError, match="damaged or cut gzip after line 0"):
        list(read_rows(path))
