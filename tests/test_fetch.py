"""Tests of mathref.fetch against a small HTTP server on 127.0.0.1: whole, resumed, broken, wrong, missing."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import http.server
import io
import json
import random
import re
import shutil
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mathref import data, fetch
from mathref.data import load_problems
from mathref.fetch import DATASETS, Dataset, Remote, download, unpack
from mathref.files import sha256

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
BODY = bytes(range(256)) * 2000  # half a megabyte: several blocks
REMOTE = Remote("a.jsonl", "https://never.invalid/a.jsonl", hashlib.sha256(BODY).hexdigest(), len(BODY))


@dataclass
class Server:
    """A file server that can be told to misbehave; `ranges` records the Range header of every request."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)  # answers to give first, before serving
    cut_after: list[int] = field(default_factory=list)  # break the connection after so many bytes, once each
    redirections: dict[str, str] = field(default_factory=dict)  # path -> address
    ranges: list[str | None] = field(default_factory=list)
    knows_ranges: bool = True
    delay_s: float = 0.0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server(files={"/a.jsonl": BODY})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.ranges.append(self.headers["Range"])
            time.sleep(state.delay_s)
            if self.path in state.redirections:
                self.send_response(302)
                self.send_header("Location", state.redirections[self.path])
                self.send_header("Content-Length", "0")
                return self.end_headers()
            body = state.files.get(self.path)
            status = state.statuses.pop(0) if state.statuses else 200 if body is not None else 404
            if status >= 400 or body is None:
                return self.send_error(status)
            start = int(re.findall(r"\d+", self.headers["Range"] or "0")[0]) if state.knows_ranges else 0
            if start >= len(body) > 0:
                return self.send_error(416)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            end = start + state.cut_after.pop(0) if state.cut_after else len(body)
            with contextlib.suppress(ConnectionError):  # the client gave up waiting
                self.wfile.write(body[start:end])

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # a proxy of the surroundings has no part in this
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def get(server: Server, folder: Path, remote: Remote = REMOTE, **options: float) -> Path:
    return download(remote, folder, base_url=server.url, wait_s=0.0, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- download -----------------------------------------------------------------------------------------


def test_a_file_is_downloaded_whole(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path / "new" / "folder")
    assert path.read_bytes() == BODY
    assert names(path.parent) == ["a.jsonl"]
    assert server.ranges == [None]


def test_a_file_that_is_there_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    assert get(server, tmp_path) == tmp_path / "a.jsonl"
    assert len(server.ranges) == 1


def test_another_file_of_that_name_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("mine")
    with pytest.raises(ValueError, match=r"a\.jsonl: is there, but is not the published file"):
        get(server, tmp_path)
    assert (tmp_path / "a.jsonl").read_text() == "mine"


def test_a_half_file_is_continued(server: Server, tmp_path: Path) -> None:
    """What a kill leaves: the rest alone is asked for."""
    (tmp_path / "a.jsonl.part").write_bytes(BODY[:100_000])
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.ranges == ["bytes=100000-"]
    assert names(tmp_path) == ["a.jsonl"]


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    """Appending its answer to the half file would have doubled the first part."""
    server.knows_ranges = False
    (tmp_path / "a.jsonl.part").write_bytes(BODY[:100_000])
    assert get(server, tmp_path).read_bytes() == BODY


def test_a_complete_part_file_needs_its_digest_only(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.part").write_bytes(BODY)
    assert get(server, tmp_path).read_bytes() == BODY
    assert names(tmp_path) == ["a.jsonl"]


def test_a_truncated_body_is_continued_at_once(server: Server, tmp_path: Path) -> None:
    server.cut_after = [70_000, 50_000]
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, "bytes=70000-", "bytes=120000-"]


def test_a_connection_that_keeps_breaking(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1000, 1000]
    with pytest.raises(
        OSError, match=r"ended after 2000 of 512000 bytes; the same command goes on from here"
    ):
        get(server, tmp_path, attempts=2)
    assert names(tmp_path) == ["a.jsonl.part"]
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.ranges[2] == "bytes=2000-"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status, status]
    assert get(server, tmp_path).read_bytes() == BODY
    server.statuses = [status] * 4
    with pytest.raises(OSError, match=f"HTTP {status}"):
        get(server, tmp_path / "b")


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_told_at_once(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status] * 9
    with pytest.raises(
        ValueError, match=rf"a\.jsonl: HTTP {status} .*name a mirror with --base-url$"
    ) as error:
        get(server, tmp_path)
    assert "\n" not in str(error.value)
    assert len(server.ranges) == 1
    assert names(tmp_path) == []


def test_a_wrong_digest_is_deleted(server: Server, tmp_path: Path) -> None:
    """Kept, the half file would be continued and fail for ever."""
    server.files["/a.jsonl"] = b"another" + BODY[7:]
    with pytest.raises(
        ValueError, match=rf"sha256 is [0-9a-f]{{64}}, expected {REMOTE.sha256}: not the published"
    ):
        get(server, tmp_path)
    assert names(tmp_path) == []
    server.files["/a.jsonl"] = BODY
    assert get(server, tmp_path).read_bytes() == BODY


def test_the_part_of_another_file_does_not_stay(server: Server, tmp_path: Path) -> None:
    for part in (b"x" * 1000, b"x" * (len(BODY) + 1000)):  # shorter, longer (416) than the file
        (tmp_path / "a.jsonl.part").write_bytes(part)
        with pytest.raises(ValueError, match="not the published file"):
            get(server, tmp_path)
        assert names(tmp_path) == []


def test_no_more_is_taken_than_was_published(server: Server, tmp_path: Path) -> None:
    """A server that sends without an end used to fill the disk before anything was said."""
    server.files["/a.jsonl"] = BODY + BODY
    with pytest.raises(ValueError, match=r"sends more than the 512,000 bytes of the published file"):
        get(server, tmp_path)
    assert names(tmp_path) == []


def test_an_empty_answer_to_the_first_request(server: Server, tmp_path: Path) -> None:
    """416 without a half file used to end in a FileNotFoundError of Python's own."""
    server.statuses = [416]
    with pytest.raises(ValueError, match=r"a\.jsonl: the server has nothing to send; if you have"):
        get(server, tmp_path)


def test_the_waits_between_attempts_double(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", lambda s: waits.append(s) if s else None)  # 0.0: the server's
    server.statuses = [503, 429, 408, 500, 500]
    with pytest.raises(OSError, match="HTTP 500"):
        download(REMOTE, tmp_path, base_url=server.url, attempts=5, wait_s=1.5)
    assert waits == [1.5, 3.0, 6.0, 12.0]


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "ftp://127.0.0.1/a.jsonl", "http://localhost:9/a.jsonl", "data:text/plain,a"],
)
def test_a_redirection_elsewhere_is_refused(server: Server, tmp_path: Path, address: str) -> None:
    """ftp, and any host on plain http, used to be followed."""
    server.redirections["/a.jsonl"] = address
    with pytest.raises(ValueError, match=r"a\.jsonl: (redirects to|HTTP 302)") as error:
        get(server, tmp_path)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []


def test_from_https_no_way_leads_back_to_http() -> None:
    handler = fetch._Redirections()
    https = urllib.request.Request("https://a.org/x")
    with pytest.raises(fetch._Refused, match="redirects to http://a.org/y, expected https"):
        handler.redirect_request(
            https, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), "http://a.org/y"
        )
    followed = handler.redirect_request(
        https, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), "https://b.org/y"
    )
    assert followed is not None and followed.full_url == "https://b.org/y"


def test_a_redirection_on_the_same_host_is_followed(server: Server, tmp_path: Path) -> None:
    server.files["/b.jsonl"] = server.files.pop("/a.jsonl")
    server.redirections["/a.jsonl"] = f"{server.url}/b.jsonl"
    assert get(server, tmp_path).read_bytes() == BODY


def test_redirections_without_an_end(server: Server, tmp_path: Path) -> None:
    server.redirections["/a.jsonl"] = f"{server.url}/a.jsonl"
    with pytest.raises(ValueError, match=r"a\.jsonl: HTTP 302 .*infinite loop"):
        get(server, tmp_path)


def test_a_silent_server_times_out(server: Server, tmp_path: Path) -> None:
    server.delay_s = 0.5
    with pytest.raises(OSError, match="timed out"):
        get(server, tmp_path, timeout_s=0.1, attempts=1)


def test_no_server_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(OSError, match="http://127.0.0.1:9/a.jsonl: .*refused"):
        download(REMOTE, tmp_path, base_url="http://127.0.0.1:9", attempts=2, wait_s=0.0)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_for_terminals(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stderr", stderr)
    get(server, tmp_path)
    assert ("a.jsonl: 100%" in stderr.getvalue()) == terminal


@pytest.mark.parametrize("url", ["file:///etc", "ftp://a", "localhost:80"])
def test_only_http_addresses(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"--base-url .*: expected an address that starts with http"):
        download(REMOTE, tmp_path, base_url=url)


# --- unpack -------------------------------------------------------------------------------------------


def tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            content = b'{"problem": "P", "level": "Level 1", "type": "T", "solution": "\\\\boxed{1}"}'
            member.size = len(content) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return path


def member(name: str, type: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, link
    return info


GOOD = member("MATH/train/algebra/1.json")


def test_an_archive_is_unpacked_into_the_math_folder(tmp_path: Path) -> None:
    folder = unpack(tar(tmp_path / "MATH.tar", member("MATH", tarfile.DIRTYPE), GOOD))
    assert folder == tmp_path / "MATH"
    assert [p.id for p in load_problems(str(folder)).problems] == ["train/algebra/1.json"]
    assert names(tmp_path) == ["MATH", "MATH.tar"]
    assert unpack(tmp_path / "MATH.tar") == folder  # again: nothing to do
    broken = next(folder.rglob("*.json"))
    broken.write_bytes(b"")  # what is left of a file after a power failure; it was called verified
    with pytest.raises(ValueError, match=r"is not what MATH\.tar holds .*1\.json is missing or has another"):
        unpack(tmp_path / "MATH.tar")
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(ValueError, match="move it away and repeat"):
        unpack(tmp_path / "MATH.tar")
    folder.rmdir()
    unpack(tmp_path / "MATH.tar")


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil.json"),
        member("MATH/../../evil.json"),
        member("/tmp/evil.json"),
        member("C:/evil.json"),
        member("..\\evil.json"),
        member("MATH/link", tarfile.SYMTYPE, "/etc"),
        member("MATH/link", tarfile.LNKTYPE, "../evil.json"),
        member("MATH/device", tarfile.CHRTYPE),
        member("MATH/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda m: f"{m.name} {m.linkname}",
)
def test_members_that_leave_the_folder_are_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    """The whole archive is, before anything of it is written."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = tar(folder / "MATH.tar", GOOD, bad)
    with pytest.raises(ValueError, match=r"MATH\.tar: member .*nothing was unpacked"):
        unpack(path)
    assert names(folder) == ["MATH.tar"]
    assert names(tmp_path / "a") == ["b"]


def test_archives_that_cannot_be_unpacked_are_one_line(tmp_path: Path) -> None:
    """A file within a file, the folder itself and an archive without any file were Python's own errors."""
    path = tmp_path / "MATH.tar"
    tar(path, GOOD, member("MATH/train"))
    with pytest.raises(ValueError, match=r"'MATH/train' is a file and a folder; nothing was unpacked"):
        unpack(path)
    tar(path, member("MATH", tarfile.DIRTYPE))
    with pytest.raises(ValueError, match=r"MATH\.tar: holds no file"):
        unpack(path)
    assert names(tmp_path) == ["MATH.tar"]
    tar(path, member("./", tarfile.DIRTYPE), GOOD)  # as `tar -c .` begins
    assert [p.name for p in unpack(path).rglob("*.json")] == ["1.json"]


def test_mutated_archives_unpack_inside_or_not_at_all(tmp_path: Path) -> None:
    """Header fields of 150 archives are overwritten and their checksums made right again."""
    formats = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)
    archives = []
    for number, format in enumerate(formats):
        with tarfile.open(tmp_path / f"{number}.tar", "w", format=format) as archive:
            for name in ("MATH/1.json", "MATH/" + "x" * 150 + "/\xe9.json"):
                archive.addfile(member(name), io.BytesIO(b""))
        archives.append((tmp_path / f"{number}.tar").read_bytes())
    refused = 0
    for number in range(150):
        rng = random.Random(number)
        content = bytearray(archives[number % 3])
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(5) * 512
            place = start + rng.choice([rng.randrange(100), rng.randrange(100, 500), 124, 156, 345])
            content[place : place + 4] = rng.choice(
                [b"../x", b"/etc", b"\0\0\0\0", b"1234", rng.randbytes(4)]
            )
            head = content[start : start + 512]
            head[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(head)
        folder = tmp_path / "a" / "b"
        folder.mkdir(parents=True)
        (folder / "MATH.tar").write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            unpack(folder / "MATH.tar")
        except ValueError as error:
            refused += 1
            assert str(folder / "MATH.tar") in str(error) and "\n" not in str(error)
        assert set(names(folder)) <= {"MATH", "MATH.tar"}
        assert names(tmp_path / "a") == ["b"]
        shutil.rmtree(tmp_path / "a")
    assert 20 < refused < 130


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = tar(tmp_path / "MATH.tar", GOOD)
    path.write_bytes(b"not a tar archive" * 100)
    with pytest.raises(ValueError, match=r"MATH\.tar: not a readable tar archive"):
        unpack(path)
    assert names(tmp_path) == ["MATH.tar"]


# --- the table and the command ------------------------------------------------------------------------


def test_the_table_is_complete() -> None:
    assert {"math", "math500", "gsm8k", "prm800k"} <= set(DATASETS)
    remotes = [remote for dataset in DATASETS.values() for remote in dataset.files]
    assert len({remote.name for remote in remotes}) == len(remotes)
    for remote in remotes:
        assert re.fullmatch(r"[0-9a-f]{64}", remote.sha256)
        assert remote.url.startswith("https://")
        # The publisher's file at a fixed commit, or an archive that is never changed.
        assert re.search(r"/[0-9a-f]{40}/", remote.url) or remote.url.endswith("MATH.tar")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public data sets are not in ../shared/data")
def test_digests_and_sizes_are_those_of_the_files_at_hand() -> None:
    table = {remote.name: remote for dataset in DATASETS.values() for remote in dataset.files}
    assert sha256(SHARED / "math500_test.jsonl") == table["math500_test.jsonl"].sha256
    assert sha256(SHARED / "gsm8k_test.jsonl") == table["gsm8k_test.jsonl"].sha256
    assert (SHARED / "gsm8k_test.jsonl").stat().st_size == table["gsm8k_test.jsonl"].size
    train = gzip.decompress((SHARED / "gsm8k_train.jsonl.gz").read_bytes())
    assert hashlib.sha256(train).hexdigest() == table["gsm8k_train.jsonl"].sha256


def test_fetch_command(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line to problems: two files and an archive."""
    content = (json.dumps({"question": "Q?", "answer": "It is 5.\n#### 5"}) + "\n").encode()
    archive = tar(tmp_path / "x.tar", GOOD).read_bytes()
    server.files = {"/g.jsonl": content, "/MATH.tar": archive}
    files = tuple(
        Remote(name[1:], "https://never.invalid", hashlib.sha256(body).hexdigest())
        for name, body in server.files.items()
    )
    monkeypatch.setitem(fetch.DATASETS, "gsm8k", Dataset("two", files))
    folder = tmp_path / "data"
    data.main(["fetch", "gsm8k", "--to", str(folder), "--base-url", server.url + "/"])
    out = capsys.readouterr().out
    assert f"{folder / 'g.jsonl'}" in out and out.endswith(
        f"next: python train.py --stage ssft --data {folder / 'g.jsonl'} {folder / 'MATH'}\n"
    )
    assert [p.answer for p in load_problems(str(folder / "g.jsonl")).problems] == ["5"]
    assert [p.answer for p in load_problems(str(folder / "MATH")).problems] == ["1"]


def test_unknown_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        data.main(["fetch", "nothing"])
    assert error.value.code == 2
    assert "math500" in capsys.readouterr().err
