"""A text file says when it is something else: packed badly, in another encoding, a pointer."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from p2r.benchmarks.files.beginning import read_utf8
from p2r.benchmarks.files.table_file import read_table
from p2r.errors import DataError

PACKED = gzip.compress(b'{"id": 1}\n' * 500, mtime=0)


def test_a_text_is_read_with_a_byte_order_mark_or_packed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf{}")
    (tmp_path / "a.jsonl.GZ").write_bytes(gzip.compress("{é}".encode()))
    assert read_utf8(tmp_path / "a.jsonl") == "{}"
    assert read_utf8(tmp_path / "a.jsonl.GZ") == "{é}"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", "{}".encode("utf-16"), "is written in UTF-16"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("a.jsonl", '{"question": "颜色"}'.encode("gbk"), "is not UTF-8"),
        ("a.jsonl", PACKED, "is a gzip archive"),
        ("a.jsonl.gz", b"{}", "cannot be read"),
        ("a.jsonl.gz", PACKED[:-9], "cannot be read"),
        ("a.jsonl.gz", PACKED[:12] + b"\xff" * 9 + PACKED[21:], "cannot be read"),
    ],
)
def test_a_file_without_text_in_utf_8_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        read_utf8(tmp_path / name)
    assert error.value.hint
    if message == "cannot be read":
        with pytest.raises(DataError, match="cannot be unpacked"):
            read_table(tmp_path / name)
