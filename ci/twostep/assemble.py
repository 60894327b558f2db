"""The assembled tree: base source, our files laid over it, our hooks applied.

Two steps. `assembled` computes, without touching a tree, the content of every
path that differs from the base; `sync` makes a tree agree, writing only what
changed, so that make rebuilds only that.

A tree starts as hard links to the base. Writing therefore always replaces a
file, never changes one in place, and a file that returns to its base content
is written anew too: its time must be later than the object built from ours.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twostep.cache import key, publish
from twostep.paths import KERNEL, SRC, on_host
from twostep.problem import Problem
from twostep.source import Source

MANIFEST = ".twostep-manifest"


@dataclass(frozen=True)
class Part:
    """One step of the series: an area's files, or one hook patch."""

    area: str
    path: Path  # a files/ folder or a .patch file

    @property
    def is_hook(self) -> bool:
        """Whether this is a patch rather than a folder of files."""
        return self.path.suffix == ".patch"

    def targets(self) -> list[str]:
        """The kernel paths that this part writes."""
        if not self.is_hook:
            return sorted(
                str(file.relative_to(self.path)) for file in self.path.rglob("*") if file.is_file()
            )
        text = self.path.read_text(encoding="utf-8")
        found = re.findall(r"^(?:---|\+\+\+) [ab]/(\S+)", text, re.M)
        if not found:
            raise Problem(f"hook {_name(self.path)} changes no file")
        return sorted(set(found))


@dataclass(frozen=True)
class Blob:
    """What a path holds: as much as git records of it."""

    data: bytes
    executable: bool = False

    @staticmethod
    def of(path: Path) -> "Blob | None":
        """What is at PATH, None if nothing is."""
        return Blob(path.read_bytes(), os.access(path, os.X_OK)) if path.exists() else None

    def write(self, path: Path) -> None:
        """Put this at PATH as a file of its own, never through a hard link."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".twostep-new")
        new.write_bytes(self.data)
        new.chmod(0o755 if self.executable else 0o644)
        new.rename(path)


Content = dict[str, Blob | None]  # by kernel path; None where the path is deleted


def _name(path: Path) -> str:
    return str(path.relative_to(SRC)) if path.is_relative_to(SRC) else on_host(path)


def areas(parts: Sequence[Part]) -> list[tuple[str, list[Part]]]:
    """The areas in order, each with its parts."""
    found: list[tuple[str, list[Part]]] = []
    for part in parts:
        if not found or found[-1][0] != part.area:
            if part.area in [area for area, _ in found]:
                raise Problem(
                    f"kernel/series comes back to {part.area} after {found[-1][0]}; "
                    "the lines of an area stand together, it is one patch of the series"
                )
            found.append((part.area, []))
        found[-1][1].append(part)
    return found


def kconfig_shape(content: Content) -> str:
    """Names what our parts make of Kconfig; '' if they leave it alone."""
    ours = [(path, blob) for path, blob in content.items() if Path(path).name.startswith("Kconfig")]
    if not ours:
        return ""
    return key(part for path, blob in ours for part in (path, blob.data if blob else b""))


def series(kernel: Path = KERNEL) -> list[Part]:
    """The parts in order: of each area in the file series its files, then its hooks.

    A line of it is AREA (its files folder) or AREA/patches/NAME.patch.
    """
    listing = _name(kernel / "series")
    parts = []
    for line in (kernel / "series").read_text(encoding="utf-8").splitlines():
        entry = line.split("#")[0].strip()
        if not entry:
            continue
        path = kernel / entry
        if path.suffix != ".patch":
            path = path / "files"
        if not path.exists():
            raise Problem(f"{listing} names {entry}, but {_name(path)} does not exist")
        parts.append(Part(entry.split("/patches/")[0], path))
    listed = {part.path for part in parts}
    for patch in sorted(kernel.rglob("patches/*.patch")):
        if patch not in listed:
            raise Problem(f"{_name(patch)} is not listed in {listing}")
    for files in sorted(kernel.rglob("files")):
        if files.is_dir() and files not in listed:
            raise Problem(f"{_name(files)} is not listed in {listing}")
    areas(parts)
    return parts


def _refusal(output: str) -> str:
    """The file and hunk at which patch(1) gave up."""
    file = ""
    for line in output.splitlines():
        for start in ("patching file ", "|+++ b/"):
            if line.startswith(start):
                file = line.removeprefix(start).split("\t")[0]
        if "FAILED" in line:
            return f"{file}: {line.strip().rstrip('.')}"
        if "No file to patch" in line:
            return f"{file}: there is no such file"
    return output.strip()[-200:]


def _apply(hook: Part, scratch: Path, base: str) -> None:
    """Apply one hook to the files in SCRATCH with zero fuzz."""
    with hook.path.open("rb") as patch:
        result = subprocess.run(
            ["patch", "-p1", "--fuzz=0", "--force", "--no-backup-if-mismatch", "--reject-file=-"],
            cwd=scratch,
            stdin=patch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        raise Problem(
            f"hook {_name(hook.path)} does not apply to {base}: "
            + _refusal(result.stdout),
            hint="refresh the hook against this release; nothing was built",
        )


def assembled(source: Source, parts: Sequence[Part]) -> Content:
    """Content of every path that PARTS write."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        touched: set[str] = set()
        for part in parts:
            for target in part.targets():
                there = scratch / target
                if part.is_hook and target not in touched and (source.tree / target).exists():
                    there.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source.tree / target, there)
                elif not part.is_hook:
                    there.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(part.path / target, there)
                touched.add(target)
            if part.is_hook:
                _apply(part, scratch, f"{source.project} {source.release}")
        return {target: Blob.of(scratch / target) for target in sorted(touched)}


def sync(tree: Path, source: Source, content: Content) -> list[str]:
    """Make TREE equal to SOURCE with CONTENT on top; return what was written.

    The caller holds the tree's lock. An interrupted sync is finished by the
    next: the manifest names every path that may differ before any does.
    """
    manifest = tree / MANIFEST
    if not manifest.exists():
        subprocess.run(["rm", "-rf", str(tree)], check=True)
        tree.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-al", str(source.tree), str(tree)], check=True)
        publish(manifest, "[]")
    ours = set(json.loads(manifest.read_text(encoding="utf-8")))
    publish(manifest, json.dumps(sorted(ours | set(content))))

    written = []
    for target in sorted(ours | set(content)):
        wanted = content[target] if target in content else Blob.of(source.tree / target)
        path = tree / target
        if Blob.of(path) == wanted:
            continue
        if wanted is None:
            path.unlink()
        else:
            wanted.write(path)
        written.append(target)
    publish(manifest, json.dumps(sorted(content)))
    return written
