#!/usr/bin/env python3
"""In the guest: has umem_bench.ko measure on-demand paging; measuring.py says how it is told.

The memory is this process' own. Small pages were touched in random order, so that neighbours
are no neighbours in memory; huge pages are huge, which is looked up and not believed.
"""

import ctypes
import mmap
import random
import re
import sys
from pathlib import Path

from measuring import Measuring, Missing, flushes

BENCH = Measuring("umem_bench", "odp", "ib_uverbs")
PAGE, HUGE, GIB = 1 << 12, 1 << 21, 1 << 30
PAGES = HUGE // PAGE
MADV_COLLAPSE = 25
ROUNDS, CYCLES = 5, 3
BLOCKS = 16
SEED = 1  # of the order of touching: the same for every kernel
REGISTERED = {"2m": HUGE, "1g": GIB, "64g": 64 * GIB, "1t": 1024 * GIB}


class Area:
    """SIZE bytes of anonymous memory that begin where a huge page can."""

    def __init__(self, size: int) -> None:
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE
        self.memory = mmap.mmap(-1, size + HUGE, kind)
        self.hold = ctypes.c_char.from_buffer(self.memory)
        start = ctypes.addressof(self.hold)
        self.offset = -start % HUGE
        self.address, self.size = start + self.offset, size

    def touch(self, huge: bool) -> None:
        """Make all of it resident, in huge pages or in scattered small ones."""
        advice = mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE
        self.memory.madvise(advice, self.offset, self.size)
        pages = list(range(self.size // PAGE))
        random.Random(SEED).shuffle(pages)
        for page in pages:
            self.memory[self.offset + page * PAGE] = 1
        if huge:
            self.memory.madvise(MADV_COLLAPSE, self.offset, self.size)
        found = self.huge_bytes()
        if found != (self.size if huge else 0):
            sys.exit(f"{found} of {self.size} bytes are in huge pages")

    def huge_bytes(self) -> int:
        """How much of the area's mapping is in huge pages."""
        smaps = Path("/proc/self/smaps").read_text(encoding="ascii")
        for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps, flags=re.M):
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", part)
            huge = re.search(r"^AnonHugePages: +(\d+) kB", part, re.M)
            if match and huge and int(match[1], 16) <= self.address < int(match[2], 16):
                return int(huge[1]) * 1024
        return 0

    def run(self, command: str) -> tuple[int, int, int]:
        """One command on all of it: instructions, bytes held for pages, bytes held anyway."""
        ((instructions, pages, fixed),) = BENCH.run(f"{command} {self.address} {self.size}")
        return instructions, pages, fixed

    def count(self, command: str, name: str) -> int:
        """One command on all of it: flushes, the rest as a remark on NAME."""
        seen = BENCH.count(f"{command} {self.address} {self.size}")
        BENCH.remark(name, seen)
        return flushes(seen)


def register_measures() -> None:
    """Memory that nobody touched."""
    for suffix, size in REGISTERED.items():
        area = Area(size)
        rounds = []
        try:
            for _ in range(ROUNDS):
                rounds.append(area.run("register"))
                BENCH.run("release")
        except Missing:
            pass
        instructions = [each[0] for each in rounds]
        BENCH.say(f"register_{suffix}", instructions or None, "instructions")
        held = [pages + fixed for _, pages, fixed in rounds]
        BENCH.say(f"register_{suffix}_bytes", held or None, "bytes")


def time_block(suffix: str, huge: bool) -> None:
    """2 MiB: instructions of a fault and of an invalidation, for each page; flushes."""
    area = Area(HUGE)
    area.touch(huge)
    area.run("register")
    fault, invalidate = [], []
    for _ in range(ROUNDS):
        fault.append(area.run("fault")[0] / PAGES)
        invalidate.append(area.run("invalidate")[0] / PAGES)
    BENCH.say(f"fault_{suffix}", fault, "instructions/page")
    BENCH.say(f"invalidate_{suffix}", invalidate, "instructions/page")

    BENCH.begin_counting()
    for command in ("fault", "invalidate"):
        name = f"{command}_{suffix}"
        number = area.count(command, name)
        if command == "invalidate" and not number:
            sys.exit(f"no flush was seen when {area.size} bytes were invalidated")
        BENCH.say(f"{name}_flushes", [number], "flushes")
    BENCH.end_counting()
    BENCH.run("release")


def weigh_blocks(suffix: str, huge: bool) -> None:
    """Bytes held for each 2 MiB, of some that were faulted in."""
    area = Area(BLOCKS * HUGE)
    area.touch(huge)
    area.run("register")
    _, pages, _ = area.run("fault")
    BENCH.run("release")
    BENCH.say(f"bytes_2m_{suffix}", [pages / BLOCKS], "bytes")


def time_cycle(suffix: str, huge: bool) -> None:
    """1 GiB that is resident: registered, faulted in, released."""
    area = Area(GIB)
    area.touch(huge)
    rounds = [area.run("cycle")[0] for _ in range(CYCLES)]
    BENCH.say(f"cycle_1g{suffix}", rounds, "instructions")


def main() -> None:
    """Everything, in one machine."""
    BENCH.load()
    register_measures()
    time_block("512", False)
    time_block("thp", True)
    weigh_blocks("scattered", False)
    weigh_blocks("huge", True)
    time_cycle("_thp", True)
    time_cycle("", False)


if __name__ == "__main__":
    main()
