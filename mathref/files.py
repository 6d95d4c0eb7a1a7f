"""Files that survive a kill: whole-or-nothing writing, JSON Lines with errors that name the line.

Paper: none; this is the ground under checkpoints, metrics and samples files.
Choices: a file is written under a temporary name in its own folder, flushed to the disk (fsync) and renamed,
so that a reader sees the old file or the new one, never half of it. Appended files (metrics, samples) grow by
whole lines; what a kill leaves of a last line is cut off before the next append (`drop_partial_line`). A file
whose name ends in .gz grows by whole gzip members, which any gzip reader takes as one stream. Whoever writes
holds a lock (`locked`), which the system takes back when its process ends, however it ends. What is read is
bounded, far above any data set: a line or JSON file by 256 MB (the environment's MATHREF_MAX_LINE_MB says
otherwise), a gzip file that grows a hundredfold by 1 GB (unpacked by its user, it has no such bound) [P].
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

MAX_LINE_MB = "MATHREF_MAX_LINE_MB"
LFS_POINTER = b"version https://git-lfs"
MAX_GROWTH, FREE_GROWTH = 100, 10**9  # of a gzip file: times its size, and the bytes that any one may have
_locks: set[Path] = set()  # the lock files that this process holds


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an error of writing, such as a full disk, say which file it met."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def writable(path: str | Path) -> Path:
    """The file that `path` names, where a link leads; it may not be there yet.

    Raises ValueError for a folder, and for a device or a pipe: a file renamed to its name would replace it.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected the name of a file")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: is a device or a pipe, expected the name of a file; name another one")
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def keep_apart(read: Mapping[str, Sequence[str | Path]], written: Mapping[str, str | Path]) -> None:
    """ValueError where a file to be written is one that is read, or two to be written are one.

    Both are given by flag, or what else the user calls them; an empty name is no file.
    """
    taken = [(name, Path(path)) for name, paths in read.items() for path in paths]
    for flag, path in written.items():
        for name, other in taken if path else []:
            if os.path.realpath(path) == os.path.realpath(other) or _is_one_file(Path(path), other):
                raise ValueError(f"{flag} {path}: {name} is the same file; name another one")
        taken += [(flag, Path(path))] if path else []


def _is_one_file(a: Path, b: Path) -> bool:
    """Whether two names are of one file that is there, whatever links and letters lead to it."""
    return a.exists() and b.exists() and a.samefile(b)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing bytes; the file appears whole when the block ends, not at all on an error.

    Where `path` is a link, the file that it leads to is replaced, and the link stays.
    """
    path = writable(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder, to write {path.name} into")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path), open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable; a no-op where folders cannot be opened (Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_temporaries(folder: Path, name: str | None = None) -> None:
    """Remove what a killed `atomic_write` left in `folder`, of the file `name` and those named after it.

    Only for a writer that has the folder, or the file, to itself (`locked`).
    """
    for temporary in folder.glob(f".{glob.escape(name)}.*.tmp" if name else ".*.tmp"):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, what: str | Path) -> Iterator[None]:
    """Have `what` to oneself, by a lock on the file `path`, which is there as long as somebody holds it.

    Raises BlockingIOError naming the process that holds it. The lock is one of the system on an open file:
    the file of a killed process blocks nobody. This process may take a lock again that it has. Its folder
    is made. Nothing is locked without fcntl, and on a file system that has no locks.
    """
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{path.parent}: is a file, or lies in one, expected a folder") from None
    if fcntl is None or path in _locks:
        yield
        return
    with _acquired(path, what) as file:
        _locks.add(path)
        try:
            file.truncate(0)
            file.write(str(os.getpid()).encode())
            file.flush()
            yield
        finally:
            _locks.discard(path)
            path.unlink(missing_ok=True)  # before the lock ends: whoever opens the path now makes a new file


def _acquired(path: Path, what: str | Path) -> IO[bytes]:
    """The lock file, opened and locked."""
    while True:
        file = open(path, "ab+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().decode() or "that just began"
            file.close()
            raise BlockingIOError(
                f"{what} is being written by another process, {holder}; wait for its end, or end it"
            ) from None
        except OSError:  # a file system without locks
            return file
        with contextlib.suppress(FileNotFoundError):  # its last holder may have removed it since we opened it
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def checkpoint_file(folder: Path, name: str) -> Path | None:
    """The file `name` of a checkpoint folder; None where there is none.

    Raises ValueError for a link that leads out of the folder: a folder made by others must not have files of
    this machine read, and copied into a run, as its own. The links of a hub's cache are followed
    (models--OWNER--NAME/snapshots/COMMIT/NAME leads to models--OWNER--NAME/blobs), and so are those by which
    an installer placed the files of this package.
    """
    path = folder / name
    if not os.path.isfile(path):  # False, too, for names that no file can have
        return None
    if path.is_symlink():
        cached = folder.resolve().parent.name == "snapshots"
        inside = folder.resolve().parent.parent if cached else folder.resolve()
        installed = Path(__file__).parent in path.absolute().parents
        if not installed and inside not in path.resolve().parents:
            raise ValueError(
                f"{path}: is a link out of the folder, which is not followed; put the file itself there"
            )
    return path


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Read one JSON file; ValueError names the file and the place where it is broken."""
    path, limit = Path(path), _longest_line()
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    refuse_pointer(path, content)
    try:
        if len(content) > limit:
            raise ValueError(_too_long(limit))
        return json.loads(content.decode("utf-8-sig"))  # a byte order mark may open a file from Windows
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({_reason(error)})") from None


def _longest_line() -> int:
    """How many bytes of JSON are read at once, from the environment if it says so."""
    given = os.environ.get(MAX_LINE_MB, "256")
    if not given.isascii() or not given.isdigit() or not 0 < int(given[:9]):
        raise ValueError(f"{MAX_LINE_MB} is {given!r}, expected a whole number of megabytes")
    return int(given) * 10**6


def _too_long(limit: int) -> str:
    return (
        f"more than {limit // 10**6} MB; if that is right, set the environment variable {MAX_LINE_MB} to more"
    )


def _reason(error: Exception) -> str:
    """Why a text is no JSON, in words that do not need Python."""
    if isinstance(error, RecursionError):
        return "too deeply nested"
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


@contextlib.contextmanager
def leaving_out(skipped: list[str] | None) -> Iterator[None]:
    """Note a ValueError of the block, which is that of one bad line, in `skipped`; None: let it through."""
    try:
        yield
    except ValueError as error:
        if skipped is None:
            raise
        skipped.append(str(error))


def first_of(problems: list[str], most: int) -> str:
    """What is wrong with a file as part of one line: the first `most` problems, and how many more."""
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "; ".join([*problems[:most], *more])


def skipped_notes(skipped: list[str]) -> list[str]:
    """Lines for the user about what --skip-bad-lines left out: how many, and the first ten."""
    if not skipped:
        return []
    more = [f"  and {len(skipped) - 10} more"] if len(skipped) > 10 else []
    lines = "1 bad line" if len(skipped) == 1 else f"{len(skipped)} bad lines"
    return [f"{lines} left out (--skip-bad-lines)", *(f"  {reason[:300]}" for reason in skipped[:10]), *more]


def read_jsonl(path: str | Path, skipped: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, record) of a JSON Lines file, gzip'd if its name ends in .gz.

    Blank lines are passed over. Raises FileNotFoundError, or ValueError naming file and line for a line that
    is not a JSON object and for a file without any record. With a list `skipped`, such lines are left out and
    what is wrong with them is added to it; a file that cannot be read on is an error all the same.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a JSON Lines file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    found = False
    for number, line in _lines(path):
        if line.strip():
            found, record = True, None
            with leaving_out(skipped):
                record = _parse_line(path, number, line)
            if record is not None:
                yield number, record
    if not found:
        raise ValueError(f"{path}: the file is empty, expected one JSON object a line")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line), of a line beyond the longest only so much that `_parse_line` sees it."""
    packed, limit = path.suffix == ".gz", _longest_line()
    number = unpacked = 0
    try:
        most = max(FREE_GROWTH, MAX_GROWTH * path.stat().st_size) if packed else math.inf
        with (gzip.open if packed else open)(path, "rb") as file:
            while line := file.readline(limit + 1):
                number, rest = number + 1, line
                while len(rest) > limit and not rest.endswith(b"\n"):  # pass over what no one will read
                    unpacked += len(rest)
                    rest = file.readline(limit + 1)
                    if unpacked > most:
                        break
                unpacked += len(rest)
                if unpacked > most:
                    raise ValueError(
                        f"{path}:{number}: the file unpacked so far is over 1 GB and {MAX_GROWTH} times as "
                        "large as packed; if that is right, unpack it (gunzip) and name that file"
                    )
                yield number, line
    except (OSError, EOFError, zlib.error) as error:  # gzip reports a damaged archive as one of the three
        raise ValueError(f"{path}: cannot be read after line {number} ({error})") from None


def refuse_pointer(path: Path, beginning: bytes | None = None) -> None:
    """ValueError for the few lines that Git LFS leaves in the place of a large file."""
    if beginning is None:
        with open(path, "rb") as file:
            beginning = file.read(len(LFS_POINTER))
    if beginning.startswith(LFS_POINTER):
        raise ValueError(f"{path}: is a Git LFS pointer, not the data; download the file that it stands for")


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    if number == 1:
        refuse_pointer(path, line)
    try:
        if len(line) > (limit := _longest_line()):
            raise ValueError(_too_long(limit))
        # A byte order mark may open a file from Windows. ValueError covers bad JSON, bad UTF-8 and an integer
        # of more digits than Python converts.
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        record = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else "; the line has no end: a run may still write it, or was killed"
        what = f"not JSON ({_reason(error)}); expected one JSON object a line{cut}"
        raise ValueError(f"{path}:{number}: {what}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}:{number}: expected a JSON object, found {type(record).__name__}")
    return record


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ValueError where a name occurs twice, since one value would get lost."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {repeated[:60]!r} occurs twice")
    return record


def _end_of_last_line(file: IO[bytes], size: int) -> int:
    """Offset behind the last newline, searched from the end: samples files are large."""
    end = size
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _end_of_last_member(file: IO[bytes]) -> int:
    """Offset behind the last gzip member that is whole."""
    end = position = 0
    member = zlib.decompressobj(wbits=31)  # 31: a gzip header is expected
    while block := file.read(65536):
        position += len(block)
        try:
            while block:
                member.decompress(block)
                block = member.unused_data  # what follows the end of this member
                if member.eof:
                    end = position - len(block)
                    member = zlib.decompressobj(wbits=31)
        except zlib.error:
            break
    return end


def drop_partial_line(path: str | Path) -> int:
    """Cut off a last line (.gz: a last member) that a kill left unfinished; return the bytes cut."""
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb+") as file:
        kept = _end_of_last_member(file) if path.suffix == ".gz" else _end_of_last_line(file, size)
        if kept < size:
            file.truncate(kept)
            file.flush()
            os.fsync(file.fileno())
    return size - kept


def open_appending(path: Path) -> IO[bytes]:
    """Open for `append_jsonl`, without a buffer: what a full disk refused is not tried again on closing."""
    return open(path, "ab", buffering=0)  # type: ignore[return-value]


def append_jsonl(file: IO[bytes], records: list[dict[str, Any]], *, compress: bool = False) -> None:
    """Append records as whole lines (as one gzip member) and hand them to the disk before returning."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    try:
        lines = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which a foreign file may hold; JSON can escape it
        lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    with naming(file.name):
        rest = memoryview(gzip.compress(lines) if compress and lines else lines)
        while rest:
            rest = rest[file.write(rest) :]
        file.flush()
        os.fsync(file.fileno())


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):  # hashlib.file_digest needs Python 3.11
            digest.update(block)
    return digest.hexdigest()


def digest_text(text: str) -> str:
    """Short hex digest of a text, to tell whether two runs saw the same."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
