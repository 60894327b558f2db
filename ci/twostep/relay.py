"""The host's end of a machine's ports: output out, keys in, the status at the end.

What arrives is counted. The guest's status line says how much it sent (see
ci/guest/agent.c); only when that much was written on is the line answered, and
only then does the guest switch itself off. A reader of ours that is slow holds
the machine, and its deadline still holds.
"""

import os
import select
import selectors
import socket
import subprocess
import time
from dataclasses import dataclass

# What a pipe takes at once when select says that it is ready.
CHUNK = select.PIPE_BUF


@dataclass
class Outcome:
    """How a run ended, as far as the ports tell."""

    status: int | None = None
    taint: int = 0
    timed_out: bool = False
    stuck: bool = False  # the guest reported and did not go


class _TimeIsUp(Exception):
    pass


class Relay:
    """Moves bytes between the ports and our own descriptors until all is said."""

    def __init__(self, ports: dict[str, socket.socket], deadline: float) -> None:
        self.ports = ports
        self.deadline = deadline
        self.targets = {"out": 1, "err": 2}
        self.moved = {"out": 0, "err": 0}
        self.line = b""

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _TimeIsUp
        return left

    def _write(self, target: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if select.select([], [target], [], self._left())[1]:
                view = view[os.write(target, view[:CHUNK]) :]

    def _take(self, name: str) -> bool:
        """Move on what has arrived at a port; False at its end."""
        try:
            data = self.ports[name].recv(1 << 16)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if name == "status":
            self.line += data
        else:
            self._write(self.targets[name], data)
            self.moved[name] += len(data)
        return bool(data)

    def _said(self) -> list[int] | None:
        """The numbers of the status line, once it is whole."""
        words = self.line.split()
        if not self.line.endswith(b"\n") or len(words) != 5 or words[0] != b"exit":
            return None
        return [int(word) for word in words[1:]]

    def _complete(self) -> bool:
        said = self._said()
        return said is not None and [self.moved["out"], self.moved["err"]] == said[2:]

    def _keys(self) -> bool:
        keys = os.read(0, 1024)
        self.ports["in"].sendall(keys)
        return bool(keys)

    def _loop(self, selector: selectors.BaseSelector) -> None:
        while not self._complete():
            names = {key.data for key, _ in selector.select(self._left())}
            # What QEMU sent before its end is still in the sockets.
            if names <= {"gone", "keys"} and "gone" in names:
                return
            for name in names - {"gone"}:
                alive = self._keys() if name == "keys" else self._take(name)
                if not alive:
                    selector.unregister(0 if name == "keys" else self.ports[name])
        self.ports["status"].send(b"\n")

    def run(self, process: "subprocess.Popen[bytes]") -> Outcome:
        """Until the guest has reported, the machine is gone or the time is up."""
        outcome = Outcome()
        with selectors.DefaultSelector() as selector:
            for name, port in self.ports.items():
                if name != "in":
                    port.setblocking(False)
                    selector.register(port, selectors.EVENT_READ, name)
            if "in" in self.ports:
                selector.register(0, selectors.EVENT_READ, "keys")
            pidfd = os.pidfd_open(process.pid)
            selector.register(pidfd, selectors.EVENT_READ, "gone")
            try:
                self._loop(selector)
            except _TimeIsUp:
                outcome.timed_out = True
            finally:
                os.close(pidfd)
        if self._complete():
            said = self._said()
            assert said is not None
            outcome.status, outcome.taint = said[0], said[1]
        return outcome
