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
import selectors
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
from dataclasses import dataclass
from pathlib import Path

from twostep.flavours import flavour
from twostep.guest import guest_folder
from twostep.kernel import Kernel, kernel_for, steps_for
from twostep.options import Machine, parse
from twostep.paths import BUILD, from_host, on_host
from twostep.problem import Problem, report, reporting, say
from twostep.progress import Steps
from twostep.qemu import PORTS, command_line
from twostep.splat import splats, taint_names

TIMED_OUT = 124
LOST = 125
KEPT_LOGS = 60
POWER_OFF_SECONDS = 20


@dataclass
class Outcome:
    """How a run ended, as far as the ports tell."""

    status: int | None = None
    taint: int = 0
    timed_out: bool = False


def _log_folder() -> Path:
    """A fresh folder for this run's logs; older ones are removed."""
    logs = BUILD / "vm"
    logs.mkdir(parents=True, exist_ok=True)
    for old in sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_LOGS]:
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%m%d-%H%M%S-"), dir=logs))


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


def _copy(source: socket.socket, target: int) -> bool:
    """Move what has arrived; False at the end."""
    try:
        data = source.recv(1 << 16)
    except BlockingIOError:
        return True
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return bool(data)


class Relay:
    """Moves bytes between the ports and our own descriptors until the status is there."""

    def __init__(self, ports: dict[str, socket.socket], deadline: float) -> None:
        self.ports = ports
        self.deadline = deadline
        self.outcome = Outcome()
        self.targets = {"out": 1, "err": 2}
        self.line = b""

    def _status(self) -> bool:
        data = self.ports["status"].recv(256)
        self.line += data
        words = self.line.split()
        if self.line.endswith(b"\n") and len(words) == 3 and words[0] == b"exit":
            self.outcome.status, self.outcome.taint = int(words[1]), int(words[2])
        return bool(data)

    def run(self, process: subprocess.Popen[bytes]) -> Outcome:
        """Until the guest reports, the machine ends or the time is up."""
        with selectors.DefaultSelector() as selector:
            for name, port in self.ports.items():
                port.setblocking(False)
                if name != "in":
                    selector.register(port, selectors.EVENT_READ, name)
            if "in" in self.ports:
                selector.register(0, selectors.EVENT_READ, "keys")
            pidfd = os.pidfd_open(process.pid)
            selector.register(pidfd, selectors.EVENT_READ, "gone")
            while self.outcome.status is None:
                left = self.deadline - time.monotonic()
                if left <= 0:
                    self.outcome.timed_out = True
                    break
                names = [key.data for key, _ in selector.select(left)]
                for name in names:
                    if name in self.targets and not _copy(self.ports[name], self.targets[name]):
                        selector.unregister(self.ports[name])
                    elif name == "status" and not self._status():
                        selector.unregister(self.ports[name])
                    elif name == "keys":
                        self.ports["in"].send(os.read(0, 4096))
                if names == ["gone"]:
                    break
            os.close(pidfd)
        self._drain()
        return self.outcome

    def _drain(self) -> None:
        """What the guest wrote before its status has arrived: the port's write waited for it."""
        for name, target in self.targets.items():
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while data := self.ports[name].recv(1 << 16):
                    view = memoryview(data)
                    while view:
                        view = view[os.write(target, view) :]


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
    text = console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""
    found = splats(text) + [f"taint: {name}" for name in taint_names(outcome.taint)]
    if outcome.timed_out:
        also = f", and its kernel reported: {found[0]}" if found else ""
        report(Problem(f"the guest did not finish within {machine.timeout:g} s{also}", log=console))
        return TIMED_OUT
    if found:
        report(Problem(f"the guest's kernel reported: {found[0]}", log=console))
        say(f"twostep: all of it: {on_host(console)}")
        return LOST
    if outcome.status is None:
        log = console if text else logs / "qemu.log"
        report(Problem("the guest ended without a status", log=log))
        return LOST
    return outcome.status


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
    kernel = kernel_for(wanted, Steps(steps_for(wanted)))
    logs = _log_folder()
    with tempfile.TemporaryDirectory() as temporary:
        folder = guest_folder(machine, Path(temporary))
        process, ports = _start(machine, kernel, logs, folder)
        deadline = time.monotonic() + machine.timeout
        try:
            with _raw_terminal(machine.tty):
                outcome = Relay(ports, deadline).run(process)
            if outcome.status is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POWER_OFF_SECONDS)
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
