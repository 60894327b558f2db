"""Building kernels, and finding the one a checkout asks for.

A finished kernel is a folder of the cache, kernel/FLAVOUR-KEY, with bzImage,
modules/, config and vmlinux (symbols). KEY names everything it was made from:
base, parts, fragments, compiler. A checkout that asks for what is there gets
it without a build; two checkouts never get each other's kernel.

The object folder obj/FLAVOUR lives on between builds, so that a change to one
of our files compiles that file only. In the build's own mount namespace source
and objects are always /twostep/linux and /twostep/obj: ccache then serves
flavours and checkouts from each other's results.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from twostep import config, source
from twostep.assemble import MANIFEST, Part, assembled, kconfig_shape, series, sync
from twostep.cache import file_digest, key, keep_newest, locked, require_space
from twostep.flavours import FLAVOURS, Flavour
from twostep.paths import CACHE, LINUX, OBJ, toolchain
from twostep.problem import Problem
from twostep.progress import Step, Steps
from twostep.source import Source

KEPT_KERNELS = 2  # of each flavour, in the cache
CCACHE_SIZE = "3G"
BUILD_SPACE_GIB = 3

# Raise it with any change here, in config.py or in assemble.py that changes what
# a kernel is: what the cache holds was made the old way.
RECIPE = "1"

# The same bytes from the same input, whoever builds and whenever.
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 2026",
    "KBUILD_BUILD_USER": "twostep",
    "KBUILD_BUILD_HOST": "lab",
}


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


def make_command(tree: Path, obj: Path, *arguments: str) -> list[str]:
    """Run make with TREE and OBJ at their fixed places, in a mount namespace of its own."""
    script = (
        'mount --bind "$1" /twostep/linux && mount --bind "$2" /twostep/obj && shift 2 '
        '&& exec make -C /twostep/linux O=/twostep/obj ARCH=x86 "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", script, "make", str(tree), str(obj), *arguments]


def make_environment(jobs: int | None = None) -> dict[str, str]:
    """Environment of a kernel build: ccache, reproducible stamps."""
    return {
        "PATH": "/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "CCACHE_DIR": str(CACHE / "ccache"),
        "CCACHE_MAXSIZE": CCACHE_SIZE,
        "MAKEFLAGS": f"-j{jobs or (os.cpu_count() or 1) + 1}",
        **REPRODUCIBLE,
    }


def _compiled(log_line: str) -> str:
    """The progress text for a line of kbuild's output."""
    return log_line.strip() if log_line.startswith("  ") else "kbuild"


def tree_of(flavour: Flavour, base: Source) -> Path:
    """The source tree that FLAVOUR is built from; ours is shared by twostep and debug."""
    return CACHE / "tree" / f"twostep-{base.version}" if flavour.ours else base.tree


def first_error(log: Path, offset: int) -> str:
    """The compiler's first error since OFFSET of the log, for the sentence of the failure."""
    with log.open("rb") as file:
        file.seek(offset)
        text = file.read().decode(errors="replace")
    match = re.search(
        r"^(?:/twostep/linux/)?"
        r"(\S+: (?:fatal )?error: .*|ERROR: modpost: .*|.*undefined reference.*)$",
        text,
        re.M,
    )
    return f": {match[1]}" if match else ""


def run_make(step: Step, command: list[str], log: Path, failure: str) -> None:
    """Run a kernel build; name the first compiler error if it fails."""
    offset = log.stat().st_size if log.exists() else 0
    try:
        step.run(command, log, failure=failure, env=make_environment(), show=_compiled)
    except Problem as problem:
        problem.sentence += first_error(log, offset)
        raise


def forget_other_base(obj: Path, base: Source) -> None:
    """Objects of another base release are stale whatever their times say."""
    stamp = obj / ".twostep-base"
    wanted = f"{base.version} {toolchain()}"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    subprocess.run(["rm", "-rf", str(obj)], check=True)
    obj.mkdir(parents=True)
    stamp.write_text(wanted, encoding="utf-8")


def configure_in_place(
    flavour: Flavour,
    tree: Path,
    obj: Path,
    base: Source,
    *,
    shape: str = "",
    later: Container[str] = (),
) -> None:
    """Configure with TREE and OBJ at their fixed places, in a process of its own.

    kconfig runs there too because its dependency lists name the tree's path.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.unshare(os.CLONE_NEWNS)
            for here, there in ((tree, LINUX), (obj, OBJ)):
                subprocess.run(["mount", "--make-rprivate", "/"], check=True)
                subprocess.run(["mount", "--bind", str(here), str(there)], check=True)
            config.configure(flavour, LINUX, OBJ, base.release, shape=shape, later=later)
            status = 0
        except Problem as problem:
            (obj / "trouble").write_text(
                json.dumps([problem.sentence, problem.hint]), encoding="utf-8"
            )
            status = 2
        finally:
            os._exit(status)
    _, wait_status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(wait_status)
    if code == 2:
        sentence, hint = json.loads((obj / "trouble").read_text(encoding="utf-8"))
        raise Problem(sentence, hint=hint)
    if code != 0:
        raise Problem(f"the configuration of the {flavour.name} kernel failed")


def _build(
    step: Step, flavour: Flavour, base: Source, parts: Sequence[Part], folder: Path
) -> Kernel:
    """Assemble, configure, compile; publish the result as FOLDER. The tree's lock is held."""
    obj = CACHE / "obj" / flavour.name
    obj.mkdir(parents=True, exist_ok=True)
    tree = tree_of(flavour, base)
    content = assembled(base, parts)
    if flavour.ours:
        if not (tree / MANIFEST).exists():
            # A new tree has the base's times, older than objects made of ours.
            for other in FLAVOURS.values():
                if other.ours:
                    shutil.rmtree(CACHE / "obj" / other.name, ignore_errors=True)
            obj.mkdir(parents=True, exist_ok=True)
        written = sync(tree, base, content)
        if written:
            step.tick(f"assembled: {len(written)} files written")
    forget_other_base(obj, base)
    configure_in_place(flavour, tree, obj, base, shape=kconfig_shape(content))

    log = CACHE / "log" / f"kernel-{flavour.name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    suffix = f"LOCALVERSION=-{flavour.name}"
    run_make(
        step,
        make_command(tree, obj, suffix, "bzImage", "modules"),
        log,
        f"the {flavour.name} kernel does not build",
    )
    for left in folder.parent.glob(f"{flavour.name}-*.new"):  # by an interrupted run
        shutil.rmtree(left, ignore_errors=True)
    new = folder.with_name(folder.name + ".new")
    new.mkdir(parents=True)
    target = f"INSTALL_MOD_PATH={new}/modules"
    run_make(
        step,
        make_command(tree, obj, suffix, "-s", target, "INSTALL_MOD_STRIP=1", "modules_install"),
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
