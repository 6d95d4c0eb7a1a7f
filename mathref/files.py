"""Files that survive a kill: whole-or-nothing writing, JSON Lines with errors that name the line.

Paper: none; this is the ground under checkpoints, metrics and samples files.
Choices: a file is written under a temporary name in its own folder, flushed to the disk (fsync) and renamed,
so that a reader sees the old file or the new one, never half of it. Appended files (metrics, samples) grow by
whole lines; what a kill leaves of a last line is cut off before the next append (`drop_partial_line`).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing bytes; the file appears whole when the block ends, or not at all on an error."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
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


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Read one JSON file; ValueError names the file and the place where it is broken."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, record) of a JSON Lines file, gzip'd if its name ends in .gz.

    Blank lines are passed over. Raises FileNotFoundError, or ValueError naming file and line for a line that is
    not a JSON object and for a file without any record.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a JSON Lines file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    opener = gzip.open if path.suffix == ".gz" else open
    number, found = 0, False
    try:
        with opener(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    found = True
                    yield number, _parse_line(path, number, line)
    except (OSError, EOFError) as error:  # gzip reports a damaged archive as one of the two
        raise ValueError(f"{path}: cannot be read after line {number} ({error})") from None
    if not found:
        raise ValueError(f"{path}: the file is empty, expected one JSON object a line")


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}:{number}: not JSON ({error}); expected one JSON object a line") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}:{number}: expected a JSON object, found {type(record).__name__}")
    return record


def drop_partial_line(path: str | Path) -> int:
    """Cut off a last line that has no newline, as a kill leaves it; return the number of bytes cut."""
    path = Path(path)
    size = path.stat().st_size
    kept = size
    with open(path, "rb+") as file:
        while kept:
            start = max(0, kept - 65536)
            file.seek(start)
            newline = file.read(kept - start).rfind(b"\n")
            if newline >= 0:
                kept = start + newline + 1
                break
            kept = start
        if kept < size:
            file.truncate(kept)
            file.flush()
            os.fsync(file.fileno())
    return size - kept


def append_jsonl(file: IO[bytes], records: list[dict[str, Any]]) -> None:
    """Append records as whole lines and hand them to the disk before returning."""
    file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())
    file.flush()
    os.fsync(file.fileno())


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _digest(file)
        )


def _digest(file: IO[bytes]) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
