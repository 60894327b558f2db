"""Object folders of the cache, obj/FLAVOUR: configure and make in them.

They live on between builds, so that a change to one of our files compiles that
file only. In the build's own mount namespace source and objects are always
/twostep/linux and /twostep/obj: ccache then serves flavours and checkouts from
each other's results.

Whatever make finds in one it takes for right if the times say so. So what an
older compiler or another base left must go, and so must what a killed build
was writing: half a .cmd file stops every later build, half an object is linked.
"""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Container, Iterator
from pathlib import Path

from twostep import config
from twostep.assemble import Content, kconfig_shape
from twostep.flavours import Flavour
from twostep.paths import CACHE, LINUX, OBJ, toolchain
from twostep.problem import Problem
from twostep.progress import Step
from twostep.source import Source

CCACHE_SIZE = "3G"
BUILDING = ".twostep-building"  # there while a build runs, and after one that did not end well

# The same bytes from the same input, whoever builds and whenever.
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 2026",
    "KBUILD_BUILD_USER": "twostep",
    "KBUILD_BUILD_HOST": "lab",
}


def forget_other_base(obj: Path, base: Source) -> None:
    """Objects of another base release are stale whatever their times say."""
    stamp = obj / ".twostep-base"
    wanted = f"{base.version} {toolchain()}"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    subprocess.run(["rm", "-rf", str(obj)], check=True)
    obj.mkdir(parents=True)
    stamp.write_text(wanted, encoding="utf-8")


def _remove_since(obj: Path, began: int) -> None:
    """Delete the files that were written at BEGAN (ns) or later."""
    for folder, _, names in os.walk(obj):
        for name in names:
            file = Path(folder, name)
            if file.lstat().st_mtime_ns >= began:
                file.unlink()


@contextlib.contextmanager
def building(obj: Path) -> Iterator[None]:
    """Hold OBJ while a build writes it; first remove what one that was killed wrote.

    A failed build counts as killed: perhaps it failed because its jobs were.
    ccache answers for most of what is compiled again.
    """
    mark = obj / BUILDING
    if mark.exists():
        _remove_since(obj, mark.stat().st_mtime_ns)
    mark.write_bytes(b"")
    yield
    mark.unlink()


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


def make_objects(
    step: Step,
    flavour: Flavour,
    tree: Path,
    base: Source,
    content: Content,
    log: Path,
    *targets: str,
    failure: str,
    later: Container[str] = (),
) -> None:
    """Configure, then make TARGETS in the object folder of FLAVOUR. TREE's lock is held."""
    obj = CACHE / "obj" / flavour.name
    obj.mkdir(parents=True, exist_ok=True)
    forget_other_base(obj, base)
    with building(obj):
        configure_in_place(flavour, tree, obj, base, shape=kconfig_shape(content), later=later)
        suffix = f"LOCALVERSION=-{flavour.name}"
        run_make(step, make_command(tree, obj, suffix, *targets), log, failure)
