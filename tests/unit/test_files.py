"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from p2r.errors import StorageError
from p2r.files import (
    Log,
    check_folder,
    explain_write_errors,
    read_lines,
    read_log,
    replace_file,
    replace_folder,
    write_lines,
)
from p2r.types import Box


def test_a_replaced_file_leaves_no_draft(tmp_path: Path) -> None:
    for text in ("old", "new"):
        replace_file(tmp_path / "a.json", text)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "new"


def test_a_folder_is_replaced_when_the_block_ends_well(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    for text in ("old", "new"):
        with replace_folder(folder) as draft:
            (draft / "a.txt").write_text(text)
            assert not folder.exists() or (folder / "a.txt").read_text() == "old"
    assert (folder / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    with replace_folder(folder) as draft:
        (draft / "a.txt").write_text("old")
    with pytest.raises(StorageError, match="no space left on device"), replace_folder(folder) as draft:
        (draft / "a.txt").write_text("half")
        raise OSError(28, "No space left on device")
    assert (folder / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_bug_in_the_block_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError), replace_folder(tmp_path / "weights"):
        raise KeyError("a")


def test_a_log_is_continued_where_the_checkpoint_left_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Log(path) as log:
        log.write({"step": 1})
        kept = log.sync()
        log.write({"step": 2})
    with Log(path, num_bytes=kept) as log:
        log.write({"step": 3})
    assert read_log(path) == [{"step": 1}, {"step": 3}]


def test_a_log_that_lost_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(StorageError, match="has 3 bytes, and had 4"):
        Log(tmp_path / "metrics.jsonl", num_bytes=4)


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text('{"step": 1}\n{"st')
    with Log(path) as log:
        log.write({"step": 2})
    assert read_log(path) == [{"step": 1}, {"step": 2}]


def test_a_line_without_an_end_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert read_log(tmp_path / "metrics.jsonl") == [{"step": 1}]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"st\n{"step": 1}\n')
    with pytest.raises(
        StorageError, match=r"line 1 of .*metrics\.jsonl is not JSON: Unterminated string .*: column 2"
    ) as caught:
        read_log(tmp_path / "metrics.jsonl")
    assert "restore the file" in caught.value.hint


def test_the_number_of_a_broken_line_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{}\nnone\n')
    with pytest.raises(StorageError, match=r"line 3 of .* is not JSON: Expecting value: column 1\n"):
        read_log(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.ENOTDIR])
def test_only_a_full_disk_needs_space(tmp_path: Path, number: int) -> None:
    full = number in (errno.ENOSPC, errno.EDQUOT)
    with pytest.raises(StorageError) as caught, explain_write_errors(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert ("free some space" in caught.value.hint, "permissions" in caught.value.hint) == (full, not full)
    with pytest.raises(StorageError) as caught, replace_folder(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert ("free some space" in caught.value.hint, "permissions" in caught.value.hint) == (full, not full)


@pytest.mark.parametrize("library", ["torch", "safetensors"])
def test_a_library_that_cannot_write_is_explained_by_what_the_system_says(tmp_path: Path, library: str) -> None:
    """A limit on the size of files, since a test cannot fill a disk."""
    torch = pytest.importorskip("torch")
    import resource

    from safetensors.torch import save_file

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = {"a": torch.zeros(100_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with (
            pytest.raises(StorageError, match="a cannot be written: file too large") as caught,
            replace_folder(tmp_path / "a") as draft,
        ):
            torch.save(state, draft / "part-0.pt") if library == "torch" else save_file(state, draft / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free some space" not in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "message", ["[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534", "PytorchStreamWriter failed"]
)
def test_torch_reports_a_full_disk_without_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    def fill(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fill)
    what = "a cannot be written: no space left on device"
    with pytest.raises(StorageError, match=what) as caught, replace_folder(tmp_path / "a"):
        raise RuntimeError(message)
    assert "free some space" in caught.value.hint


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("NCCL error: unhandled system error"),
        MemoryError(),
        KeyboardInterrupt(),
    ],
)
def test_what_does_not_come_from_writing_is_not_called_a_full_disk(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, replace_folder(tmp_path / "a"):
        raise error
    assert caught.value is error
    assert not list(tmp_path.iterdir())


def test_rows_may_be_models_or_mappings(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    with Log(path) as log:
        log.write(Box(x1=0, y1=0, x2=1, y2=1, label="é"))
        log.write({"step": 1, "name": "é"})
    assert path.read_bytes() == (
        b'{"x1":0.0,"y1":0.0,"x2":1.0,"y2":1.0,"label":"\xc3\xa9"}\n{"step": 1, "name": "\xc3\xa9"}\n'
    )


@pytest.mark.parametrize("rest", [b"", b'{"a', b"x" * 200_000, "é".encode()[:1]])
@pytest.mark.parametrize("whole", [b"", b'{"a": 1}\n', b'{"a": 1}\n' + b"y" * 100_000 + b"\n"])
def test_opening_drops_a_last_line_that_was_cut_short(tmp_path: Path, whole: bytes, rest: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(whole + rest)
    with Log(path) as log:
        assert path.read_bytes() == whole
        log.write({"b": 2})
    assert path.read_bytes() == whole + b'{"b": 2}\n'


def test_lines_are_forced_onto_the_disk_together_and_the_last_ones_on_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_synced = 0

    def count(_: int) -> None:
        nonlocal num_synced
        num_synced += 1

    monkeypatch.setattr(os, "fsync", count)
    found: list[int] = []
    with Log(tmp_path / "log.jsonl", sync_every=3) as log:
        for k in range(7):
            log.write({"k": k})
            found.append(num_synced)
    assert found == [0, 0, 1, 1, 1, 2, 2] and num_synced == 3
    with Log(tmp_path / "log.jsonl") as log:
        log.write({"k": 7})
    assert num_synced == 3


def test_a_written_line_is_readable_at_once(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl") as log:
        log.write({"k": 0})
        assert read_lines(tmp_path / "log.jsonl") == ['{"k": 0}']


def test_unicode_line_breaks_do_not_end_a_line(tmp_path: Path) -> None:
    row = {"text": "one\u2028two\x85three\nfour"}
    write_lines(tmp_path / "log.jsonl", [row])
    assert read_log(tmp_path / "log.jsonl") == [row]


def test_a_missing_log_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read: no such file"):
        read_log(tmp_path / "log.jsonl")


@pytest.mark.parametrize("num_cut", [1, 2**16 - 2, 2**16 - 1, 2**16, 2**17 - 1])
def test_a_log_keeps_every_whole_line_before_a_cut_one_of_any_length(tmp_path: Path, num_cut: int) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": 2}\n' + b"x" * num_cut)
    with Log(path) as log:
        log.write({"c": 3})
    assert read_log(path) == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize("cause", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_could_not_be_written_leaves_the_old_one_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: BaseException
) -> None:
    replace_file(tmp_path / "page.html", "old")

    def fail(handle: int) -> None:
        raise cause

    monkeypatch.setattr("p2r.files.os.fsync", fail)
    with pytest.raises(type(cause)):
        replace_file(tmp_path / "page.html", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "old"


def test_a_folder_is_checked_without_being_made(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "newer")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "photo.png").touch()
    for path in (tmp_path / "photo.png", tmp_path / "photo.png" / "below"):
        with pytest.raises(StorageError, match=r"photo\.png is a file"):
            check_folder(path)


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.files.os.access", lambda *_: False)
    with pytest.raises(StorageError, match="is not writable"):
        check_folder(tmp_path)
