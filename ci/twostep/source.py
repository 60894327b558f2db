"""Base kernel sources: Debian's linux-source packages, downloaded and unpacked once.

A source is a folder of the cache, linux/VERSION, that nobody changes; our own
tree shares its files by hard links (see assemble.py).
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from twostep import apt
from twostep.cache import publish, file_digest, locked, require_space
from twostep.paths import CACHE, KERNEL, on_host
from twostep.problem import Problem, say
from twostep.progress import Step, Steps

MAINLINE = "linux-source-7.2"


@dataclass(frozen=True)
class Source:
    """An unpacked source, of a base kernel if it says nothing else."""

    tree: Path
    version: str  # of the Debian package, 6.12.117-1
    release: str  # of the kernel, 6.12.117
    project: str = "linux"


def recorded_version() -> str:
    """The 6.12 point release that the hooks were last checked against."""
    return (KERNEL / "base").read_text(encoding="ascii").strip()


def _choose_package(base: str, options: list[str]) -> str:
    """The source package for BASE; the newest of backports once mainline's own is gone."""
    if base != "mainline":
        return f"linux-source-{base}"
    names = subprocess.run(
        ["apt-cache", *options, "pkgnames", "linux-source-"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    if MAINLINE in names:
        return MAINLINE
    numbers = [name.split("-")[2] for name in names if name[-1:].isdigit()]
    versions = [tuple(map(int, number.split("."))) for number in numbers]
    if not versions:
        raise Problem("the mirror offers no linux-source package")
    newest = "linux-source-" + ".".join(map(str, max(versions)))
    say(f"twostep: {MAINLINE} is gone from the archive, mainline is {newest}")
    return newest


@apt.alone()
def _download(step: Step, base: str, folder: Path) -> None:
    """Fetch the package of BASE into FOLDER, with its checksum beside it."""
    log = CACHE / "log" / f"source-{base}.log"
    options = apt.updated(step, log, "the kernel source")
    package = _choose_package(base, options)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    apt.download(step, log, options, package, new)
    (deb,) = new.glob("*.deb")
    (new / "sha256").write_text(f"{file_digest(deb)}\n", encoding="ascii")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def _unpack(step: Step, base: str, folder: Path) -> Source:
    """Unpack the downloaded package; refuse one that changed on disk."""
    (deb,) = folder.glob("*.deb")
    if file_digest(deb) != (folder / "sha256").read_text(encoding="ascii").strip():
        shutil.rmtree(folder)
        raise Problem(
            f"the cached download {on_host(deb)} is corrupt; it was removed",
            hint="run the same command again, it is then downloaded afresh",
        )
    version = deb.name.split("_")[1].replace("%3a", ":")
    tree = CACHE / "linux" / version
    new = tree.with_name(tree.name + ".new")
    subprocess.run(["rm", "-rf", str(new), str(tree)], check=True)
    new.mkdir(parents=True)
    script = (
        'dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards "./usr/src/linux-source-*.tar.xz"'
        ' | tar -xJ -C "$2" --strip-components=1'
    )
    step.run(
        ["bash", "-o", "pipefail", "-c", script, "unpack", str(deb), str(new)],
        CACHE / "log" / f"source-{base}.log",
        failure=f"{deb.name} could not be unpacked",
    )
    new.rename(tree)
    publish(folder / "unpacked", version)
    return _as_source(tree)


def _as_source(tree: Path) -> Source:
    head = (tree / "Makefile").read_text(encoding="utf-8")[:400]
    fields = dict(re.findall(r"^(\w+) =[ ]?(.*)$", head, re.M))
    numbers = ".".join(fields[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
    return Source(tree, tree.name, numbers + fields["EXTRAVERSION"])


def cached(base: str) -> Source | None:
    """The source of BASE if it is at hand."""
    stamp = CACHE / "download" / base / "unpacked"
    if stamp.exists():
        tree = CACHE / "linux" / stamp.read_text(encoding="utf-8")
        if tree.exists():
            return _as_source(tree)
    return None


def source(base: str, steps: Steps) -> Source:
    """The source of BASE, downloaded and unpacked if need be."""
    found = cached(base)
    if found is not None:
        return found
    folder = CACHE / "download" / base
    with locked(folder, f"the source of linux {base}"):
        found = cached(base)
        if found is not None:
            return found
        require_space(CACHE, 3, f"the source of linux {base}")
        step = steps.start(f"source of linux {base}")
        if not (folder / "sha256").exists():
            _download(step, base, folder)
        found = _unpack(step, base, folder)
        step.done(f"linux {found.version}")
    if base == "6.12" and found.version != recorded_version():
        say(
            f"twostep: the archive now serves linux {found.version}; the hooks were last "
            f"checked against {recorded_version()} (kernel/base)"
        )
    return found
