"""Downloading the public data sets: resumed where it broke off, verified, whole or not at all.

Paper: section 3 (MATH and PRM800K); GSM8K is the data set of the real-weights example.
Choices: every file comes from its publisher at a fixed commit, with the digest that was published for it:
the Git LFS pointers of openai/prm800k hold those of PRM800K and of the split of MATH (12,000 problems and
MATH-500). `math` is that split, because the original archive (`math-archive`, 12,500 problems in folders)
has often been out of reach since 2025; its digest is the one that ParlAI's copy of the download list states.
A half file is kept as NAME.part and continued by the same command; nothing is called NAME before its digest
is right. A redirection is followed within http on the same host, and to https anywhere: the digest decides
what the file is. No more bytes are taken than the publisher states [P].
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm import tqdm

from mathref.files import naming, sha256, sync_folder

BLOCK = 1 << 16
PRM800K = "https://media.githubusercontent.com/media/openai/prm800k/7ecc794703b2877f63226f2477a49b34f9b25163/prm800k"
GSM8K = (
    "https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c"
    "/grade_school_math/data"
)


@dataclass(frozen=True)
class Remote:
    """One file to download, under the name it gets here; an archive is unpacked beside it."""

    name: str
    url: str
    sha256: str
    size: int | None = None  # bytes, where the publisher states them


@dataclass(frozen=True)
class Dataset:
    """What `fetch NAME` downloads."""

    about: str
    files: tuple[Remote, ...]


def _prm800k(name: str, path: str, digest: str, size: int) -> Remote:
    return Remote(name, f"{PRM800K}/{path}", digest, size)


DATASETS = {
    "math": Dataset(
        "MATH, the 12,000 training problems of the PRM800K split (11 MB)",
        (
            _prm800k(
                "math_train.jsonl",
                "math_splits/train.jsonl",
                "90d96daeac3fe343ebb1e22ce93dd99690f75983e957f88de42f87cffe1e8076",
                10896985,
            ),
        ),
    ),
    "math500": Dataset(
        "MATH-500, the 500 held-out problems (0.4 MB)",
        (
            _prm800k(
                "math500_test.jsonl",
                "math_splits/test.jsonl",
                "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
                446564,
            ),
        ),
    ),
    "gsm8k": Dataset(
        "GSM8K, 7,473 training and 1,319 test problems (5 MB)",
        (
            Remote(
                "gsm8k_train.jsonl",
                f"{GSM8K}/train.jsonl",
                "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
                4166206,
            ),
            Remote(
                "gsm8k_test.jsonl",
                f"{GSM8K}/test.jsonl",
                "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
                749738,
            ),
        ),
    ),
    "prm800k": Dataset(
        "PRM800K, phase 1 and 2 (477 MB)",
        (
            _prm800k(
                "prm800k_phase1_train.jsonl",
                "data/phase1_train.jsonl",
                "e9da6a73f827ffb9a8c0dc644c541d34ed76b3d4d1e4896ff5f7b37ddf5ae34d",
                7900236,
            ),
            _prm800k(
                "prm800k_phase1_test.jsonl",
                "data/phase1_test.jsonl",
                "f4b3bc5b095e45c816453dc4d748b755c680d61d55f9895d929a335b487c727d",
                829105,
            ),
            _prm800k(
                "prm800k_phase2_train.jsonl",
                "data/phase2_train.jsonl",
                "1110237feeb51d1bc200cb37b8f965cfdc1036eac7d506094049366fe7dc1089",
                456135365,
            ),
            _prm800k(
                "prm800k_phase2_test.jsonl",
                "data/phase2_test.jsonl",
                "6b172efa884ac8341a946dd82e06947c135b7254109fb3f7aa907c715d98aaad",
                12240719,
            ),
        ),
    ),
    "math-archive": Dataset(
        "MATH as first published, 12,500 problems in folders",
        (
            Remote(
                "MATH.tar",
                "https://people.eecs.berkeley.edu/~hendrycks/MATH.tar",
                "0fbe4fad0df66942db6c221cdcc95b298cc7f4595a2f0f518360cce84e90d9ac",
            ),
        ),
    ),
}


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows what stays on its scheme and host, or leads to https: not to ftp or file, nor back to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        here, there = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if there.scheme != "https" and (here.scheme, here.netloc) != (there.scheme, there.netloc):
            fp.close()
            raise _Refused(f"redirects to {newurl[:200]}, expected https, or the same scheme and host")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Refused(Exception):
    """What the server answers is not to be had this way, now or later."""


class _Broken(Exception):
    """The transfer stopped on its way; what has come stays in the .part file, and trying again may help."""


def _request(url: str, offset: int, timeout_s: float) -> http.client.HTTPResponse | None:
    """Open `url` from byte `offset` on, None where nothing is left; the whole file (200) may come."""
    headers = {"User-Agent": "mathref", **({"Range": f"bytes={offset}-"} if offset else {})}
    try:
        opener = urllib.request.build_opener(_Redirections)
        return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing beyond `offset`: the part is complete, or is of another file
            return None
        if error.code >= 500 or error.code in (408, 429):
            raise _Broken(f"HTTP {error.code} {error.reason}") from None
        raise _Refused(f"HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:  # no such host, refused, timed out, reset
        raise _Broken(str(getattr(error, "reason", error))) from None


def _transfer(
    response: http.client.HTTPResponse, part: Path, offset: int, label: str, size: int | None
) -> None:
    """Append the body to the .part file, or start it anew where the server sends the whole file.

    Raises _Refused for a body beyond `size`, where that is known.
    """
    resumed = response.status == 206 and (response.headers.get("Content-Range") or "").startswith(
        f"bytes {offset}-"
    )
    offset = offset if resumed else 0
    length = response.headers.get("Content-Length")
    total = offset + int(length) if length and length.isascii() and length.isdigit() else None
    bar = tqdm(
        total=total,
        initial=offset,
        desc=label,
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        disable=None,  # None: no bar when stderr is no terminal
    )
    with bar, naming(part), open(part, "ab" if resumed else "wb") as file:
        while True:
            try:
                block = response.read(BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Broken(f"the connection broke ({error})") from None
            if not block:
                break
            if size is not None and file.tell() + len(block) > size:
                raise _Refused(f"sends more than the {size:,} bytes of the published file")
            file.write(block)
            bar.update(len(block))
        received = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if total is not None and received < total:
        raise _Broken(f"the connection ended after {received} of {total} bytes")


def _get(url: str, part: Path, remote: Remote, timeout_s: float) -> None:
    """One attempt at bringing `part` up to its full length."""
    offset = part.stat().st_size if part.exists() else 0
    if response := _request(url, offset, timeout_s):
        try:
            with response:
                _transfer(response, part, offset, remote.name, remote.size)
        except _Refused:
            part.unlink()  # it is another file's
            raise


def download(
    remote: Remote,
    folder: Path,
    *,
    base_url: str | None = None,
    attempts: int = 4,
    timeout_s: float = 30.0,
    wait_s: float = 1.0,
) -> Path:
    """Bring one file into `folder` and return its path; a file that is there with the right digest is kept.

    Raises ValueError for a refusal by the server, a wrong digest, or another file of that name; OSError when
    the transfer keeps breaking off, in which case the same call continues it.
    """
    url = f"{base_url.rstrip('/')}/{remote.name}" if base_url else remote.url
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"--base-url {base_url}: expected an address that starts with http:// or https://")
    target, part = folder / remote.name, folder / f"{remote.name}.part"
    if target.exists():
        if sha256(target) == remote.sha256:
            return target
        raise ValueError(f"{target}: is there, but is not the published file (sha256 differs); move it away")
    folder.mkdir(parents=True, exist_ok=True)
    elsewhere = f"if you have the file from elsewhere, put it at {target}, or name a mirror with --base-url"
    for attempt in range(1, attempts + 1):
        try:
            _get(url, part, remote, timeout_s)
            break
        except _Broken as error:
            if attempt == attempts:
                raise OSError(f"{url}: {error}; the same command goes on from here; {elsewhere}") from None
            time.sleep(wait_s * 2 ** (attempt - 1))
        except _Refused as error:
            raise ValueError(f"{url}: {error}; {elsewhere}") from None
    if not part.exists():  # 416 for the whole file
        raise ValueError(f"{url}: the server has nothing to send; {elsewhere}")
    if (found := sha256(part)) != remote.sha256:
        part.unlink()  # kept, it would be continued for ever
        raise ValueError(
            f"{url}: sha256 is {found}, expected {remote.sha256}: not the published file, so it was deleted; "
            f"try again; {elsewhere}"
        )
    os.replace(part, target)
    sync_folder(folder)
    return target


def _members(archive: tarfile.TarFile, path: Path) -> list[tarfile.TarInfo]:
    """The files of an archive; ValueError if one would leave the folder or is neither a file nor a folder."""
    files: dict[PurePosixPath, tarfile.TarInfo] = {}
    folders: set[PurePosixPath] = set()
    for member in archive:
        name = PurePosixPath(member.name.replace("\\", "/"))
        if not name.parts and member.isdir():  # "./", the folder itself
            continue
        outside = not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]
        if outside or "\0" in member.name:
            raise ValueError(
                f"{path}: member {member.name!r} points outside the folder; nothing was unpacked"
            )
        if member.isfile() and not member.issparse():
            files[name] = member
            folders.update(name.parents)
        elif not member.isdir():
            raise ValueError(f"{path}: member {member.name!r} is a link or device; nothing was unpacked")
    if both := files.keys() & folders:
        raise ValueError(f"{path}: member '{min(both)}' is a file and a folder; nothing was unpacked")
    if not files:
        raise ValueError(f"{path}: holds no file")
    return list(files.values())


def _check_unpacked(target: Path, members: list[tarfile.TarInfo], path: Path) -> None:
    """ValueError if the folder lacks a file of the archive, or has one of another size."""
    names = [PurePosixPath(member.name.replace("\\", "/")) for member in members]
    # MATH.tar holds a folder MATH, which alone is kept.
    inner = any(name.parts[0] == target.name for name in names)
    for member, name in zip(members, names, strict=True):
        if inner and name.parts[0] != target.name:
            continue
        place = (target.parent if inner else target) / name
        if not place.is_file() or place.stat().st_size != member.size:
            raise ValueError(
                f"{target}: is not what {path.name} holds ({place} is missing or has another size); move it "
                "away and repeat the command"
            )


def unpack(path: Path) -> Path:
    """Unpack NAME.tar into the folder NAME beside it, whole or not at all, and return that folder.

    Raises ValueError where something else has that name, or a part of what was unpacked is missing.
    """
    target, part = path.with_suffix(""), path.with_name(f"{path.stem}.unpacking")
    shutil.rmtree(part, ignore_errors=True)  # of an unpacking that was killed
    try:
        with tarfile.open(path, "r:") as archive:  # not compressed: its content is no larger than it is
            members = _members(archive, path)
            if target.exists():
                _check_unpacked(target, members, path)
                return target
            for member in members:
                place = part / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                source: IO[bytes] | None = archive.extractfile(member)
                assert source is not None  # it is a file
                with naming(place), source, open(place, "wb") as file:
                    shutil.copyfileobj(source, file)
        inner = part / target.name  # MATH.tar holds one folder, MATH
        os.replace(inner if inner.is_dir() else part, target)
    except (tarfile.TarError, OverflowError) as error:  # the latter for sizes that no file has
        raise ValueError(f"{path}: not a readable tar archive ({error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def fetch(name: str, folder: Path, *, base_url: str | None = None) -> list[Path]:
    """Download the data set `name` of DATASETS into `folder`; return what can be given to --data."""
    paths = []
    for remote in DATASETS[name].files:
        path = download(remote, folder, base_url=base_url)
        paths.append(unpack(path) if path.suffix == ".tar" else path)
    return paths
