"""Building kernels, and finding the one a checkout asks for.

A finished kernel is a folder of the cache, kernel/FLAVOUR-KEY, with bzImage,
modules/, config and vmlinux (symbols). KEY names everything it was made from:
base, parts, fragments, compiler. A checkout that asks for what is there gets
it without a build; two checkouts never get each other's kernel.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twostep import config, source
from twostep.assemble import MANIFEST, Content, Part, assembled, series, sync
from twostep.cache import file_digest, key, keep_newest, locked, require_space
from twostep.flavours import FLAVOURS, Flavour
from twostep.objects import make_command, make_objects, run_make
from twostep.paths import CACHE, toolchain
from twostep.progress import Step, Steps
from twostep.source import Source

KEPT_KERNELS = 2  # of each flavour, in the cache
BUILD_SPACE_GIB = 3

# Raise it with any change here, in config.py, assemble.py or objects.py that changes
# what a kernel is: what the cache holds was made the old way.
RECIPE = "1"


@dataclass(frozen=True)
class Kernel:
    """A finished kernel."""

    folder: Path
    flavour: str
    release: str  # what `uname -r` says in the guest

    @property
    def image(self) -> Path:
        """What QEMU loads."""
        return self.folder / "bzImage"

    @property
    def modules(self) -> Path:
        """The folder that becomes /lib/modules."""
        return self.folder / "modules/lib/modules"


def kernel_key(
    flavour: Flavour, base: Source, parts: Sequence[Part], fragments: Path | None = None
) -> str:
    """Names everything that decides what the kernel will be."""
    inputs: list[str] = [RECIPE, flavour.name, base.version, toolchain()]
    inputs += sorted(wish.line() for wish in config.wishes_of(flavour, fragments).values())
    for part in parts if flavour.ours else ():
        inputs.append(part.area)
        for file in [part.path] if part.is_hook else sorted(part.path.rglob("*")):
            if file.is_file():
                inputs += [str(file.relative_to(part.path)), file_digest(file)]
                inputs += ["executable"] if os.access(file, os.X_OK) else []
    return key(inputs)


def _folder(flavour: Flavour, base: Source, parts: Sequence[Part]) -> Path:
    return CACHE / "kernel" / f"{flavour.name}-{kernel_key(flavour, base, parts)}"


def _finished(folder: Path, flavour: Flavour) -> Kernel | None:
    stamp = folder / "complete"
    try:
        os.utime(stamp)
        return Kernel(folder, flavour.name, stamp.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None


def cached_kernel(flavour: Flavour) -> Kernel | None:
    """The kernel of FLAVOUR for this checkout, if it is already built."""
    base = source.cached(flavour.base)
    if base is None:
        return None
    parts = series() if flavour.ours else []
    return _finished(_folder(flavour, base, parts), flavour)


def tree_of(flavour: Flavour, base: Source) -> Path:
    """The source tree that FLAVOUR is built from; ours is shared by twostep and debug."""
    return CACHE / "tree" / f"twostep-{base.version}" if flavour.ours else base.tree


def sync_tree(flavour: Flavour, tree: Path, base: Source, content: Content) -> list[str]:
    """Bring the tree of FLAVOUR to CONTENT; return the files written. The tree's lock is held."""
    if not flavour.ours:
        return []
    if not (tree / MANIFEST).exists():
        # A new tree has the base's times, older than objects made of ours.
        for other in FLAVOURS.values():
            if other.ours:
                shutil.rmtree(CACHE / "obj" / other.name, ignore_errors=True)
    return sync(tree, base, content)


def _build(
    step: Step, flavour: Flavour, base: Source, parts: Sequence[Part], folder: Path
) -> Kernel:
    """Assemble, configure, compile; publish the result as FOLDER. The tree's lock is held."""
    tree, obj = tree_of(flavour, base), CACHE / "obj" / flavour.name
    content = assembled(base, parts)
    written = sync_tree(flavour, tree, base, content)
    if written:
        step.tick(f"assembled: {len(written)} files written")
    log = CACHE / "log" / f"kernel-{flavour.name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    failure = f"the {flavour.name} kernel does not build"
    make_objects(step, flavour, tree, base, content, log, "bzImage", "modules", failure=failure)
    for left in folder.parent.glob(f"{flavour.name}-*.new"):  # by an interrupted run
        shutil.rmtree(left, ignore_errors=True)
    new = folder.with_name(folder.name + ".new")
    new.mkdir(parents=True)
    where = (f"LOCALVERSION=-{flavour.name}", f"INSTALL_MOD_PATH={new}/modules")
    run_make(
        step,
        make_command(tree, obj, "-s", *where, "INSTALL_MOD_STRIP=1", "modules_install"),
        log,
        f"the modules of the {flavour.name} kernel do not install",
    )
    release = (obj / "include/config/kernel.release").read_text(encoding="ascii").strip()
    for link in ("build", "source"):
        (new / "modules/lib/modules" / release / link).unlink(missing_ok=True)
    shutil.copyfile(obj / "arch/x86/boot/bzImage", new / "bzImage")
    shutil.copyfile(obj / ".config", new / "config")
    shutil.copyfile(obj / "vmlinux", new / "vmlinux")
    (new / "origin").write_text(
        json.dumps({"flavour": flavour.name, "base": base.version, "release": release}) + "\n",
        encoding="utf-8",
    )
    (new / "complete").write_text(release, encoding="ascii")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    keep_newest(
        [stamp.parent for stamp in (CACHE / "kernel").glob(f"{flavour.name}-*/complete")],
        KEPT_KERNELS,
    )
    return Kernel(folder, flavour.name, release)


def steps_for(flavour: Flavour) -> int:
    """How many steps `kernel_for` would take now, for the numbering."""
    if cached_kernel(flavour) is not None:
        return 0
    return 1 if source.cached(flavour.base) is not None else 2


def kernel_for(flavour: Flavour, steps: Steps) -> Kernel:
    """The kernel of FLAVOUR for this checkout, built now if nobody has yet."""
    base = source.source(flavour.base, steps)
    parts = series() if flavour.ours else []
    folder = _folder(flavour, base, parts)
    done = _finished(folder, flavour)
    if done is not None:
        return done
    with locked(tree_of(flavour, base), f"the {flavour.name} kernel"):
        done = _finished(folder, flavour)
        if done is not None:
            return done
        require_space(CACHE, BUILD_SPACE_GIB, f"the {flavour.name} kernel")
        step = steps.start(f"kernel {flavour.name}: linux {base.version}")
        done = _build(step, flavour, base, parts, folder)
        step.done(done.release)
        return done
