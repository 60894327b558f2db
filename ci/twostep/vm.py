"""ci/vm: boots a Machine, runs its command, answers with its status.

Whatever the guest sends on "out" and "err" goes to our stdout and stderr as it
is. The status comes on a port of its own (see ci/guest/agent.c); the kernel's
log is a file that QEMU writes from the serial console. Nothing is told apart
by looking at output.

Status: the command's own; 124 when the time is up; 125 when QEMU ended without
a status, or the kernel log or the taint mask shows a splat.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from twostep.cache import in_use, locked, remove_unused
from twostep.flavours import flavour
from twostep.guest import guest_folder
from twostep.kernel import Kernel, kernel_for, steps_for
from twostep.options import Machine, parse
from twostep.paths import BUILD, from_host, on_host
from twostep.problem import Problem, report, reporting, say
from twostep.progress import Steps
from twostep.qemu import PORTS, command_line
from twostep.userland import steps_for_userland, userland
from twostep.relay import Outcome, Relay
from twostep.splat import splats, taint_names

TIMED_OUT = 124
LOST = 125
KEPT_LOGS = 200
POWER_OFF_SECONDS = 60


@contextlib.contextmanager
def _log_folder() -> Iterator[Path]:
    """A fresh folder for this run's logs, safe from pruning until the run is over.

    Names begin with the time, so their order is that of the runs.
    """
    logs = BUILD / "vm"
    logs.mkdir(parents=True, exist_ok=True)
    with locked(BUILD / "vm", "the logs"):
        for old in sorted(path for path in logs.iterdir() if path.is_dir())[:-KEPT_LOGS]:
            remove_unused(old, old / "qemu.log")
        made = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=logs))
        (made / "qemu.log").touch()
        held = in_use(made / "qemu.log")
        held.__enter__()
    try:
        yield made
    finally:
        held.__exit__(None, None, None)


@contextlib.contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _start(
    machine: Machine, kernel: Kernel, logs: Path, folder: Path
) -> tuple[subprocess.Popen[bytes], dict[str, socket.socket]]:
    ports, theirs = {}, {}
    for name in PORTS if machine.tty else PORTS[:-1]:
        ports[name], end = socket.socketpair()
        theirs[name] = end.detach()
    fds: list[int] = []
    words = command_line(machine, kernel, folder, logs / "console.log", theirs, fds)
    (logs / "qemu-command").write_text(" ".join(words) + "\n", encoding="utf-8")
    with (logs / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=fds,
            start_new_session=True,
        )
    for fd in fds:
        os.close(fd)
    return process, ports


def _verdict(machine: Machine, outcome: Outcome, logs: Path) -> int:
    """The status of this run, with the reason on stderr if it is not the command's own."""
    console = logs / "console.log"
    if not console.exists():
        report(Problem("QEMU did not start the guest", log=logs / "qemu.log"))
        return LOST
    text = console.read_text(encoding="utf-8", errors="replace")
    found = splats(text) + [f"taint: {name}" for name in taint_names(outcome.taint)]
    if outcome.timed_out:
        also = f", and its kernel reported: {found[0]}" if found else ""
        report(Problem(f"the guest did not finish within {machine.timeout:g} s{also}", log=console))
        return TIMED_OUT
    if found:
        report(Problem(f"the guest's kernel reported: {found[0]}", log=console))
        say(f"twostep: all of it: {on_host(console)}")
        return LOST
    if outcome.stuck:
        sentence = f"the guest did not switch itself off within {POWER_OFF_SECONDS} s of its status"
        report(Problem(sentence, log=console))
        return LOST
    if outcome.status is None:
        log = console if text else logs / "qemu.log"
        report(Problem("the guest ended without a status", log=log))
        return LOST
    return outcome.status


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether the guest switches itself off after its status."""
    try:
        process.wait(POWER_OFF_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def run(machine: Machine) -> int:
    """Boot MACHINE and return the status of its run."""
    if machine.share is not None:
        share = from_host(machine.share)
        if not share.is_dir():
            raise Problem(f"ci/vm: --share {machine.share} is not a folder", status=2)
        machine.share = str(share)
    if machine.tty and not sys.stdin.isatty():
        raise Problem("ci/vm: --tty needs a terminal", status=2)
    wanted = flavour(machine.kernel)
    steps = Steps(steps_for_userland() + steps_for(wanted))
    userland(steps)
    kernel = kernel_for(wanted, steps)
    with (
        _log_folder() as logs,
        in_use(kernel.folder / "complete"),
        tempfile.TemporaryDirectory() as temporary,
    ):
        folder = guest_folder(machine, Path(temporary))
        process, ports = _start(machine, kernel, logs, folder)
        deadline = time.monotonic() + machine.timeout
        try:
            with _raw_terminal(machine.tty):
                outcome = Relay(ports, deadline).run(process)
            if outcome.status is not None:
                outcome.stuck = not _ended(process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        return _verdict(machine, outcome, logs)


@reporting
def main() -> int:
    """The command ci/vm."""
    return run(parse(sys.argv[1:]))


if __name__ == "__main__":
    main()
