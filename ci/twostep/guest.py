"""The 9p folder that tells a guest what to do: init, agent, settings, command, programs."""

import os
import shlex
import shutil
from pathlib import Path

from twostep.options import Machine
from twostep.odp_tests import odp_tests
from twostep.paths import SRC
from twostep.patched import built
from twostep.perftest import PERFTEST, PROGRAMS
from twostep.program import program
from twostep.progress import Steps
from twostep.rdma_core import INSTEAD, RDMA_CORE

GUEST = SRC / "ci/guest"


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
