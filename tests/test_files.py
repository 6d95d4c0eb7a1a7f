"""Tests of mathref.files: nothing is half-written, and every broken line is named."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mathref.files import (
    append_jsonl,
    atomic_write,
    drop_partial_line,
    keep_apart,
    locked,
    open_appending,
    read_json,
    read_jsonl,
    sha256,
    write_json,
)

ROOT = Path(__file__).resolve().parent.parent
# What JSON can hold, half of a surrogate pair included: a foreign engine may write one.
TEXTS = st.text(st.characters(codec="utf-8") | st.just("\ud83d"), max_size=20)
RECORDS = st.dictionaries(TEXTS, TEXTS | st.integers(-(2**60), 2**60) | st.none(), max_size=4)


def read(path: Path) -> list[dict]:
    return [record for _, record in read_jsonl(path)]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- atomic_write, write_json, read_json --------------------------------------------------------------


def test_atomic_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", "old and long")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old and long"  # a reader still sees the old one
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_atomic_write_leaves_nothing_behind_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_survives_a_kill(tmp_path: Path) -> None:
    """A process that dies in the middle of writing leaves the old file as it was."""
    path = write(tmp_path / "a.json", '{"step": 1}')
    code = (
        "import os, signal, sys\nfrom mathref.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'{\"step\"'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, timeout=60)
    assert done.returncode != 0
    assert read_json(path) == {"step": 1}
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as an editor on Windows saves it
    assert read_json(path) == {"step": 1}


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    """A rename replaced a device, a pipe or a link: `--out /dev/null`, as root, destroyed it for all."""
    os.mkfifo(pipe := tmp_path / "pipe")
    (tmp_path / "link to pipe").symlink_to(pipe)
    for path, what in (
        (pipe, "device or a pipe"),
        (tmp_path / "link to pipe", "device or a pipe"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(ValueError, match=f"{path}: is a {what}, expected the name of a file"):
            write_json(path, {})
    assert pipe.is_fifo() and (tmp_path / "link to pipe").is_symlink() and len(list(tmp_path.iterdir())) == 2


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    there, link = tmp_path / "elsewhere" / "a.json", tmp_path / "link.json"
    link.symlink_to(there)
    for value in (1, 2):  # a file that is not there yet, and one that is
        write_json(link, value)
        assert link.is_symlink() and read_json(there) == value
    assert list(there.parent.iterdir()) == [there]


def test_a_file_that_is_read_is_not_written(tmp_path: Path) -> None:
    read, other = write(tmp_path / "a", "1"), tmp_path / "b"
    (tmp_path / "link").symlink_to(read)
    (tmp_path / "hard").hardlink_to(read)
    keep_apart({"--data": [read, tmp_path / "c"]}, {"--out": other, "--json": "", "--plot": ""})
    for name in ("a", "link", "hard"):
        with pytest.raises(ValueError, match=f"^--out .*{name}: --data is the same file; name another one$"):
            keep_apart({"--data": [read]}, {"--out": tmp_path / name})
    with pytest.raises(ValueError, match=r"^--plot .*b: --json is the same file"):
        keep_apart({}, {"--json": other, "--plot": f"{tmp_path}/./b"})


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder, to write a\.json into"):
        write_json(tmp_path / "nowhere" / "a.json", {})


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"π": [1, 2.5, None, True], "text": "a\nb"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100000, b"1" * 5000])
def test_broken_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "a.json", content)
    with pytest.raises(ValueError, match=r"a\.json: not valid JSON"):
        read_json(path)


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")


# --- read_jsonl ---------------------------------------------------------------------------------------


def test_lines_are_numbered_and_blank_ones_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n\n  \r\n{"a": 2}\r\n{"a": 3}')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]


def test_gzip_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": 2}\n'))
    assert read(path) == [{"a": 1}, {"a": 2}]


def test_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """A file saved by an editor of Windows begins with one; its first line used to be refused."""
    assert read(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\n')) == [{"a": 1}]


@pytest.mark.parametrize(
    "line",
    [b"{", b"nonsense", b"\xff", b"[1]", b'"text"', b"null", b"[" * 100000, b'{"a": ' + b"1" * 5000 + b"}"],
    ids=["cut", "word", "not UTF-8", "list", "text", "null", "deep", "5000 digits"],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes) -> None:
    """The 5000 digits used to escape with Python's own message, without file and line."""
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2: .*JSON object") as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl: the file is empty"):
        read(write(tmp_path / "a.jsonl", content))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.jsonl: no such file"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="is a folder"):
        read(tmp_path)


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    """What a clone without Git LFS holds in place of the PRM800K files."""
    path = write(tmp_path / "a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(ValueError, match=r"a\.jsonl: is a Git LFS pointer"):
        read(path)


PACKED = gzip.compress("".join(f'{{"a": {i}}}\n' for i in range(5000)).encode())


@pytest.mark.parametrize(
    "content",
    [PACKED[:-4], PACKED[: len(PACKED) // 2], PACKED[:40] + b"\x00" * 40 + PACKED[80:], b'{"a": 1}\n'],
    ids=["tail cut", "half", "damaged", "not gzip"],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    """Damage inside the deflate stream is a zlib.error, which used to escape without the file's name."""
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz:? ?(cannot be read|\d+: not JSON|: cannot)"):
        read(write(tmp_path / "a.jsonl.gz", content))


# --- append_jsonl, drop_partial_line ------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(records=st.lists(RECORDS, min_size=1, max_size=5), compress=st.booleans())
def test_appended_records_read_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict], compress: bool
) -> None:
    """Whatever the text: a lone surrogate used to stop the run with UnicodeEncodeError."""
    path = tmp_path_factory.mktemp("files") / ("a.jsonl.gz" if compress else "a.jsonl")
    with open(path, "ab") as file:
        for record in records:
            append_jsonl(file, [record], compress=compress)
        append_jsonl(file, [], compress=compress)
    assert read(path) == records


@pytest.mark.parametrize("compress", [False, True])
def test_every_kill_leaves_whole_lines(tmp_path: Path, compress: bool) -> None:
    """Cut the file at every byte: kept is every line that was whole, and appending goes on from there."""
    name = "a.jsonl.gz" if compress else "a.jsonl"
    records = [{"a": i, "text": "x" * i} for i in range(4)]
    ends = [0]
    path = tmp_path / name
    with open(path, "ab") as file:
        for record in records:
            append_jsonl(file, [record], compress=compress)
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for cut in range(1, len(whole) + 1):
        path.write_bytes(whole[:cut])
        n = sum(end <= cut for end in ends[1:])
        assert drop_partial_line(path) == cut - ends[n]
        with open(path, "ab") as file:
            append_jsonl(file, [{"more": True}], compress=compress)
        assert read(path) == [*records[:n], {"more": True}]


def test_a_long_partial_line_is_cut(tmp_path: Path) -> None:
    """Longer than one block of the backward search."""
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n' + b"x" * 200_000)
    assert drop_partial_line(path) == 200_000
    assert path.read_bytes() == b'{"a": 1}\n'


def test_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    assert sha256(write(tmp_path / "a", content)) == hashlib.sha256(content).hexdigest()
    # A published value: FIPS 180-2, appendix B.1.
    published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(write(tmp_path / "b", "abc")) == published


def test_append_is_valid_json_lines(tmp_path: Path) -> None:
    with open(tmp_path / "a.jsonl", "wb") as file:
        append_jsonl(file, [{"a": "line\nbreak"}, {"b": "\u2028 π"}])
    lines = (tmp_path / "a.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == [{"a": "line\nbreak"}, {"b": "\u2028 π"}]
    assert "π".encode() in lines[1]  # readable, not escaped


# --- naming, locked -----------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_full_disk_is_named_once(tmp_path: Path) -> None:
    """The error of a write knew no file, and closing the file raised another one in its place."""
    (tmp_path / "a.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError) as error, open_appending(tmp_path / "a.jsonl") as file:
        append_jsonl(file, [{"a": 1}])
    assert error.value.errno == errno.ENOSPC and str(tmp_path / "a.jsonl") in str(error.value)


def test_an_error_on_the_way_to_the_disk_names_the_file_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.json", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(str(path))), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


HOLD = (
    "import sys, pathlib; from mathref.files import locked\n"
    "with locked(pathlib.Path(sys.argv[1]), 'runs/a'):\n    print('held', flush=True); sys.stdin.read()"
)


def hold(path: Path) -> subprocess.Popen:
    """Another process that has the lock until its standard input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout and holder.stdout.readline() == b"held\n"
    return holder


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for kill in (False, True):
        with hold(lock) as holder:
            said = rf"^runs/a is being written by another process, {holder.pid}; wait"
            with pytest.raises(BlockingIOError, match=said), locked(lock, "runs/a"):
                pass
            assert lock.exists()
            holder.kill() if kill else holder.communicate()
        assert lock.exists() == kill  # what a kill leaves blocks nobody
        with locked(lock, "runs/a"), locked(lock, "runs/a"):  # and who has it may take it again
            assert lock.read_text() == str(os.getpid())
        assert not lock.exists()


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    """It was "[Errno 17] File exists", with whatever path."""
    file = write(tmp_path / "file", "")
    for folder in (file, file / "deeper"):
        with (
            pytest.raises(
                NotADirectoryError, match=f"^{folder}: is a file, or lies in one, expected a folder"
            ),
            locked(folder / "lock", "x"),
        ):
            pass


def test_a_line_without_an_end_is_said_to_be_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": ')
    with pytest.raises(
        ValueError, match=r"a\.jsonl:2: not JSON.*the line has no end: a run may still write it"
    ):
        read(path)
