"""Measuring modules, kernel/*/bench, built outside each kernel's tree: stock stays stock.

A module is made of its folder and of ci/bench, which is what the modules share. Built, it is
a folder of the cache, module/NAME-KEY, with NAME.ko. KEY names the kernel and the sources. It
is compiled against the objects that the kernel was made of; those live on between builds, so
they are first brought back to this kernel if another checkout has moved them on.
"""

import filecmp
import os
import re
import shutil
from pathlib import Path

from twostep import source
from twostep.assemble import assembled, series
from twostep.cache import file_digest, key, keep_newest, locked
from twostep.flavours import Flavour
from twostep.kernel import Kernel, cached_kernel, sync_tree, tree_of
from twostep.objects import make_command, make_objects, run_make
from twostep.paths import CACHE, KERNEL, SRC, on_host
from twostep.problem import Problem
from twostep.progress import Step
from twostep.source import Source

SHARED = SRC / "ci/bench"
DMA = KERNEL / "dma/bench"
UMEM = KERNEL / "infiniband/bench"
RXE = KERNEL / "infiniband/bench-rxe"
KEPT_MODULES = 36


def sources(folder: Path) -> list[Path]:
    """What the module of FOLDER is made of."""
    return sorted([folder / "Makefile", *folder.glob("*.[ch]")]) + sorted(SHARED.glob("*.[ch]"))


def module_name(folder: Path) -> str:
    """NAME of NAME.ko, as the Makefile says it."""
    match = re.search(r"^obj-m := (\w+)\.o$", (folder / "Makefile").read_text("ascii"), re.M)
    if match is None:
        raise Problem(f"{on_host(folder)}/Makefile makes no module")
    return match[1]


def module_key(kernel: Kernel, folder: Path) -> str:
    """Names everything that decides what the module will be."""
    parts = [kernel.folder.name]
    for path in sources(folder):
        parts += [path.name, file_digest(path)]
    return key(parts)


def _bring_back(step: Step, flavour: Flavour, kernel: Kernel, base: Source, log: Path) -> None:
    """Make the objects of FLAVOUR those of KERNEL, if they are not. The tree's lock is held."""
    tree, obj = tree_of(flavour, base), CACHE / "obj" / flavour.name
    content = assembled(base, series() if flavour.ours else [])
    moved = bool(sync_tree(flavour, tree, base, content))
    pairs = (
        (obj / "vmlinux", kernel.folder / "vmlinux"),
        (obj / ".config", kernel.folder / "config"),
    )
    if not moved and all(
        here.exists() and filecmp.cmp(here, there, shallow=False) for here, there in pairs
    ):
        return
    step.tick("bringing back the kernel's objects")
    failure = f"the objects of the {flavour.name} kernel cannot be made again"
    make_objects(step, flavour, tree, base, content, log, "bzImage", "modules", failure=failure)


def _build(flavour: Flavour, kernel: Kernel, base: Source, code: Path, folder: Path) -> None:
    name = module_name(code)
    step = Step(f"{name} for the {flavour.name} kernel")
    log = CACHE / "log" / f"{name}-{flavour.name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    _bring_back(step, flavour, kernel, base, log)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    work = new / "work"
    work.mkdir(parents=True)
    try:
        for path in sources(code):
            shutil.copy(path, work)
        tree, obj = tree_of(flavour, base), CACHE / "obj" / flavour.name
        run_make(
            step,
            make_command(tree, obj, f"M={work}", "modules"),
            log,
            f"{name} does not build for the {flavour.name} kernel",
        )
        (work / f"{name}.ko").rename(new / f"{name}.ko")
        shutil.rmtree(work)
        (new / "complete").touch()
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    step.done()


def require_unchanged(flavour: Flavour, kernel: Kernel) -> None:
    """A Problem if KERNEL is not that of this checkout any more: ci/vm would run another."""
    if cached_kernel(flavour) != kernel:
        raise Problem(
            f"the sources of the {flavour.name} kernel changed while it was being measured",
            hint="run the same command again",
        )


def module_for(flavour: Flavour, kernel: Kernel, code: Path) -> Path:
    """The module of the folder CODE for KERNEL, built now if nobody has yet."""
    name = module_name(code)
    folder = CACHE / "module" / f"{name}-{module_key(kernel, code)}"
    built = folder / f"{name}.ko"
    stamp = folder / "complete"
    if stamp.exists():
        os.utime(stamp)
        return built
    base = source.cached(flavour.base)
    if base is None:
        raise Problem(f"the source of the {flavour.name} kernel is gone from the cache")
    with locked(tree_of(flavour, base), f"the {flavour.name} kernel"):
        require_unchanged(flavour, kernel)
        if not stamp.exists():
            _build(flavour, kernel, base, code, folder)
    keep_newest([each.parent for each in folder.parent.glob("*/complete")], KEPT_MODULES)
    return built
