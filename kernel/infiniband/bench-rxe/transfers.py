#!/usr/bin/env python3
"""In the guest: what messages and registrations over soft-RoCE cost, in instructions.

A ratio of on-demand paging to pinned memory must not be one of two ways to copy bytes: one copy
is `rep movsb`, an instruction a byte on this clock, the other `rep movsq`, one for eight bytes,
and hardware takes as long for both. What a byte of a copy takes on each is measured, and pinned
memory is taken to be cheaper by the difference before the two are compared.
"""

import subprocess
from dataclasses import dataclass

from cost import BENCH, WrongBytes, cost_or_none

KIB, MIB = 1 << 10, 1 << 20
FRAME = 4200  # holds the largest path MTU


@dataclass(frozen=True)
class Message:
    """A kind of message."""

    name: str
    operation: str
    size: int
    mtu: int = 1024

    def rounds(self, kind: str) -> list[float] | None:
        """Its instructions between two regions of KIND; none also if its bytes come out wrong."""
        try:
            return cost_or_none("transfer", self.operation, str(self.size), str(self.mtu), kind)
        except WrongBytes as wrong:
            print(f"# rxe.{self.name}_{kind}: {wrong}", flush=True)
            return None

    def measure(self, byte: float) -> None:
        """Its figures; a BYTE of a copy is so much dearer on pinned memory."""
        pinned, odp = self.rounds("pinned"), self.rounds("odp")
        BENCH.say(f"{self.name}_pinned", pinned, "instructions")
        BENCH.say(f"{self.name}_odp", odp, "instructions")
        # Each byte is copied to a packet, and from it.
        copies = 2 * self.size * byte
        ratio = [(min(pinned) - copies) / min(odp)] if pinned and odp else None
        BENCH.say(f"odp_over_pinned_{self.name}", ratio, "ratio")


MESSAGES = (
    Message("write_64k", "write", 64 * KIB),
    Message("read_64k", "read", 64 * KIB),
    Message("send_64k", "send", 64 * KIB),
    Message("write_2", "write", 2),
    Message("write_1m", "write", MIB),
    Message("write_64k_mtu4k", "write", 64 * KIB, 4096),
)


def copy_measures() -> float:
    """One copy, of a packet's bytes; how much dearer a byte is on pinned memory."""
    byte = {"pinned": 0.0, "odp": 0.0}
    for kind in byte:
        whole, half = (cost_or_none("copy", str(size), kind) for size in (KIB, KIB // 2))
        BENCH.say(f"copy_1k_{kind}", whole, "instructions")
        if whole and half:
            byte[kind] = (whole[0] - half[0]) / (KIB // 2)
    print(f"# rxe.copy_1k: a byte is {byte} instructions", flush=True)
    return byte["pinned"] - byte["odp"]


def register_measures() -> None:
    """On-demand paging memory that nobody touched."""
    costs: list[float] = []
    for number, (name, size) in enumerate((("1g", 1), ("64g", 64), ("1t", 1024))):
        # What grows with the size is an array, and to ask for one of 2 GiB is a kernel WARN.
        possible = len(costs) == number and (number < 2 or costs[1] < 2 * costs[0])
        rounds = cost_or_none("register", str(size)) if possible else None
        costs += [min(rounds)] if rounds else []
        BENCH.say(f"register_{name}", rounds, "instructions")


def main() -> None:
    """Everything, in one machine."""
    BENCH.load()
    subprocess.run(["ip", "link", "set", "d0", "mtu", str(FRAME)], check=True)
    register_measures()
    byte = copy_measures()
    for message in MESSAGES:
        message.measure(byte)


if __name__ == "__main__":
    main()
