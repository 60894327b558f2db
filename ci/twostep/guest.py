"""The 9p folder that tells a guest what to do: init, agent, settings, command, programs."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from twostep.cache import file_digest, key, locked
from twostep.options import Machine
from twostep.paths import CACHE, SRC, lab_key
from twostep.problem import Problem
from twostep.patched import built
from twostep.perftest import PERFTEST, PROGRAMS
from twostep.progress import Steps
from twostep.rdma_core import INSTEAD, RDMA_CORE
from twostep.source import source

GUEST = SRC / "ci/guest"


def program(
    main: Path, *flags: str, includes: tuple[Path, ...] = (), others: tuple[Path, ...] = ()
) -> Path:
    """MAIN, a C program of ours, and OTHERS, compiled; kept in the cache by their content.

    With the headers beside it and in the folders INCLUDES.
    """
    name = main.stem
    headers = [
        header for place in (main.parent, *includes) for header in sorted(place.glob("*.h"))
    ]
    contents = [file_digest(file) for file in (main, *others, *headers)]
    folder = CACHE / "program" / f"{name}-{key([*contents, lab_key(), *flags])}"
    binary = folder / name
    if not binary.exists():
        with locked(folder, f"compiling {main.name}"):
            folder.mkdir(parents=True, exist_ok=True)
            new = folder / f"{name}.new"
            compiler = ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
            folders = [f"-I{place}" for place in includes]
            result = subprocess.run(
                [*compiler, *folders, "-o", new, main, *others, *flags],
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            if result.returncode != 0:
                raise Problem(
                    f"{main.relative_to(SRC)} does not compile: {result.stderr.strip()}"
                )
            new.rename(binary)
    return binary


def odp_tests(*more: Path) -> Path:
    """The suite, on the kernel's own harness of tests, of the base source; with MORE tests."""
    folder = SRC / "userspace/odp-tests"
    main = folder / "odp-tests.c"
    others = [path for path in sorted(folder.rglob("*.c")) if path != main]
    harness = source("6.12", Steps(0)).tree / "tools/testing/selftests"
    # Tables of tests leave out what a test does not need.
    flags = ("-Wno-missing-field-initializers", "-isystem", str(harness))
    return program(
        main, *flags, "-libverbs", "-pthread", includes=(folder,), others=(*others, *more)
    )


def _provider(folder: Path) -> None:
    """Our soft-RoCE provider, mounted over the distribution's as its package would replace it."""
    root = built(RDMA_CORE, Steps(0)).root
    with (folder / "fstab").open("a", encoding="ascii") as fstab:
        for name in INSTEAD:
            (folder / "rdma-core" / name).parent.mkdir(parents=True)
            shutil.copy(root / name, folder / "rdma-core" / name)
            fstab.write(f"/twostep/guest/rdma-core/{name} /{name} none bind\n")


def guest_folder(machine: Machine, folder: Path) -> Path:
    """Fill FOLDER for one run and return it."""
    for name in ("init", "fstab"):
        shutil.copy(GUEST / name, folder)
    shutil.copy(program(GUEST / "agent.c"), folder / "agent")
    programs = folder / "bin"
    programs.mkdir()
    shutil.copy(odp_tests(), programs)
    abi = SRC / "kernel/infiniband/files/drivers/infiniband/sw/odp_test"
    for name in ("umem-faults", "umem-features", "umem-walk"):
        source = SRC / f"userspace/umem-tests/{name}.c"
        shutil.copy(program(source, "-pthread", includes=(abi,)), programs)
    _provider(folder)
    shutil.copytree(built(PERFTEST, Steps(0)).root / PROGRAMS, folder / "perftest")
    words = [os.fsencode(word) + b"\0" for word in machine.command]
    (folder / "command").write_bytes(b"".join(words))
    settings = {
        "share": "yes" if machine.share else "no",
        "rxe": "yes" if machine.rxe else "no",
    }
    size = os.get_terminal_size(0) if machine.tty else os.terminal_size((80, 24))
    terminal = {"LINES": str(size.lines), "COLUMNS": str(size.columns)}
    exports = terminal | {"TERM": os.environ.get("TERM", "linux")} if machine.tty else {}
    lines = [f"{name}={value}" for name, value in settings.items()]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
    (folder / "settings").write_text("\n".join(lines) + "\n", encoding="utf-8")
    folder.chmod(0o755)
    return folder
