"""Where things are, seen from inside the lab root."""

import os
import subprocess
from pathlib import Path

LAB = Path("/twostep")
SRC = LAB / "src"  # the checkout
CACHE = LAB / "cache"  # everything that can be made again
HOST = LAB / "host"  # the host's own tree
LINUX = LAB / "linux"  # kernel source of the build under way
OBJ = LAB / "obj"  # its object folder
ROOT = LAB / "root"  # the lab root without what is mounted on it

KERNEL = SRC / "kernel"
BUILD = SRC / "build"


def root_disk() -> Path:
    """The disk image of the lab root that this process runs in."""
    newest = max(CACHE.glob("lab/*/complete"), key=lambda stamp: stamp.stat().st_mtime)
    for stamp in CACHE.glob("lab/*/complete"):
        root = stamp.parent / "root"
        if root.stat().st_ino == ROOT.stat().st_ino and root.stat().st_dev == ROOT.stat().st_dev:
            newest = stamp
    return newest.parent / "root.ext4"


def lab_key() -> str:
    """Names the recipe of the lab root."""
    return root_disk().parent.name


def toolchain() -> str:
    """The versions of what compiles a kernel."""
    return (LAB / "toolchain").read_text(encoding="ascii")


def on_host(path: Path) -> str:
    """PATH as the user outside the lab would write it."""
    text = str(path)
    for inside, outside in (
        (str(SRC) + "/", ""),
        (str(CACHE), os.environ.get("TWOSTEP_HOST_CACHE", str(CACHE))),
        (str(HOST), ""),
    ):
        if text.startswith(inside):
            return outside + text[len(inside) :]
    return text


def from_host(path: str) -> Path:
    """The opposite: a path that a user gave, relative to their folder.

    A caller that is itself inside the lab (a test, make run) has a working
    directory outside /twostep/host and gives paths of the lab.
    """
    if path.startswith("/") and Path.cwd().is_relative_to(HOST):
        real = subprocess.run(
            ["chroot", str(HOST), "realpath", "--canonicalize-missing", path],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return HOST / real.stdout.strip().lstrip("/")
    return Path.cwd() / path
