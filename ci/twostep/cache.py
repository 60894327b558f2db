"""Rules of the cache folder: one writer at a time, whole things only.

Anything in the cache may be deleted at any time between runs. What is made is
made under a temporary name and renamed when complete.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from twostep.paths import on_host
from twostep.problem import Problem, say


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold PATH.lock; say so if another run has it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"twostep: another run is busy with {what}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key(parts: Iterable[str | bytes]) -> str:
    """A short name for everything that PARTS say."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def require_space(folder: Path, gib: int, what: str) -> None:
    """Refuse to begin what would not fit."""
    folder.mkdir(parents=True, exist_ok=True)
    free = os.statvfs(folder)
    have = free.f_bavail * free.f_frsize / (1 << 30)
    if have < gib:
        raise Problem(
            f"{what} needs {gib} GiB free in {on_host(folder)}, there are {have:.1f}; "
            "free some or set TWOSTEP_CACHE"
        )


def publish(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)


@contextlib.contextmanager
def in_use(stamp: Path) -> Iterator[None]:
    """Keep the folder of STAMP from being removed by `remove_unused`."""
    with stamp.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def remove_unused(folder: Path, stamp: Path) -> None:
    """Delete FOLDER unless someone holds its STAMP; the stamp goes first.

    So an interrupted removal leaves something that nobody takes for whole.
    """
    try:
        with stamp.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stamp.unlink()
    except BlockingIOError:
        return
    except FileNotFoundError:
        pass
    shutil.rmtree(folder, ignore_errors=True)


def keep_newest(folders: Iterable[Path], count: int) -> None:
    """Delete all but the COUNT most recently used of FOLDERS (by the age of their stamp)."""
    ordered = sorted(folders, key=lambda f: (f / "complete").stat().st_mtime, reverse=True)
    for old in ordered[count:]:
        remove_unused(old, old / "complete")
