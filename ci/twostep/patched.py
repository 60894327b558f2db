"""Other projects' Debian source packages with patches of ours, built once and kept in the cache.

A built one is a folder of the cache, PROJECT/KEY, with root/, the files as they are installed,
and the .deb that installs them. What is built from the source, and how, its project says:
twostep.rdma_core, twostep.perftest.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twostep import apt
from twostep.assemble import assembled, series
from twostep.cache import file_digest, keep_newest, key, locked, publish, require_space
from twostep.paths import CACHE, lab_key, on_host
from twostep.problem import Problem
from twostep.progress import Step, Steps
from twostep.source import Source

KEPT = 2
SPACE_GIB = 1


@dataclass(frozen=True)
class Building:
    """What a project's own steps work with."""

    step: Step
    tree: Path  # the source with our patches; may be written to
    scratch: Path  # for anything else, gone afterwards
    out: Path  # root/ and the .deb go here
    log: Path
    version: str  # of the Debian source package

    def run(self, words: list[str], failure: str, env: dict[str, str] | None = None) -> None:
        """Run a command, its output in the log."""
        self.step.run(words, self.log, failure=failure, env=env)


@dataclass(frozen=True)
class Project:
    """A Debian source package, and what we make of it."""

    name: str  # of the source package
    packaged: str  # a package of the lab root: its source's version is taken
    result: str  # what is built, in words
    patches: Path  # the folder with the series
    inputs: tuple[Path, ...]  # files and folders that the result depends on, beside the series
    build: Callable[[Building], None]

    def version(self) -> str:
        """Of the source package."""
        words = ["dpkg-query", "-W", "-f", "${source:Version}", self.packaged]
        return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout

    def download(self) -> Path:
        """Where its source is kept."""
        return CACHE / "download" / f"{self.name}-{self.version()}"

    def folder(self) -> Path:
        """Where the result of this checkout is kept."""
        files = [Path(__file__), self.patches / "series"]
        for each in self.inputs:
            files += sorted(file for file in each.rglob("*")) if each.is_dir() else [each]
        digests = [lab_key(), self.version()]
        for file in files:
            if file.is_file() and file.suffix != ".md":
                digests += [file.name, file_digest(file)]
        return CACHE / self.name / key(digests)


@dataclass(frozen=True)
class Built:
    """A built project."""

    folder: Path

    @property
    def root(self) -> Path:
        """Its files below the names they are installed under."""
        return self.folder / "root"

    @property
    def package(self) -> Path:
        """The .deb."""
        (deb,) = self.folder.glob("*.deb")
        return deb


def _finished(folder: Path) -> Built | None:
    try:
        os.utime(folder / "complete")
        return Built(folder)
    except FileNotFoundError:
        return None


def steps_for(project: Project) -> int:
    """How many steps `built` would take now, for the numbering."""
    if _finished(project.folder()):
        return 0
    return 1 if (project.download() / "complete").exists() else 2


@apt.alone()
def _download(step: Step, project: Project, log: Path) -> None:
    """Fetch the source package."""
    folder = project.download()
    options = apt.updated(step, log, f"{project.name}'s source", sources=True)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    package = f"{project.name}={project.version()}"
    files = apt.download_source(step, log, options, package, new)
    publish(new / "complete", "".join(f"{digest}  {name}\n" for name, digest in files.items()))
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def _unpack(step: Step, project: Project, tree: Path, log: Path) -> Source:
    """Unpack what was downloaded, with Debian's patches; refuse files that changed on disk."""
    folder = project.download()
    check = ["sha256sum", "--check", "--strict", "complete"]
    if subprocess.run(check, cwd=folder, capture_output=True, check=False).returncode != 0:
        shutil.rmtree(folder)
        raise Problem(
            f"the cached download {on_host(folder)} is corrupt; it was removed",
            hint="run the same command again, it is then downloaded afresh",
        )
    script = (
        'tar -xf "$1"/*.orig.tar.* -C "$2" --strip-components=1'
        ' && tar -xf "$1"/*.debian.tar.* -C "$2" && cd "$2"'
        " && for patch in $(sed 's/#.*//' debian/patches/series)"
        '; do patch -p1 <"debian/patches/$patch"; done'
    )
    tree.mkdir()
    step.run(
        ["sh", "-ec", script, "unpack", str(folder), str(tree)],
        log,
        failure=f"{project.name}'s source {project.version()} could not be unpacked",
    )
    return Source(tree, project.version(), project.version(), project.name)


def _build(step: Step, project: Project, folder: Path, log: Path) -> None:
    # Always the same place, for ccache.
    scratch = CACHE / "obj" / project.name
    shutil.rmtree(scratch, ignore_errors=True)
    new = folder.with_name(folder.name + ".new")
    for left in folder.parent.glob("*.new"):  # by an interrupted run
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    scratch.mkdir(parents=True)
    tree = scratch / "src"
    source = _unpack(step, project, tree, log)
    for path, blob in assembled(source, series(project.patches)).items():
        if blob is None:
            (tree / path).unlink()
        else:
            blob.write(tree / path)
    project.build(Building(step, tree, scratch, new, log, project.version()))
    shutil.rmtree(scratch)
    (new / "complete").touch()
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def built(project: Project, steps: Steps) -> Built:
    """What this checkout makes of PROJECT, built now if nobody has yet."""
    folder = project.folder()
    done = _finished(folder)
    if done is not None:
        return done
    log = CACHE / "log" / f"{project.name}.log"
    with locked(CACHE / project.name, project.result):
        done = _finished(folder)
        if done is not None:
            return done
        require_space(CACHE, SPACE_GIB, project.result)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        if not (project.download() / "complete").exists():
            step = steps.start(f"source of {project.name} {project.version()}")
            _download(step, project, log)
            step.done()
        step = steps.start(f"{project.result}: {project.name} {project.version()}")
        _build(step, project, folder, log)
        keep_newest([each.parent for each in (CACHE / project.name).glob("*/complete")], KEPT)
        step.done()
    return Built(folder)


def compiler_env() -> dict[str, str]:
    """For compilers behind ccache."""
    env = dict(os.environ, CCACHE_DIR=f"{CACHE}/ccache")
    env["PATH"] = f"/usr/lib/ccache:{env['PATH']}"
    return env
