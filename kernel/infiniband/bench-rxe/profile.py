#!/usr/bin/env python3
"""In the guest: where a command's instructions go in the kernel, function by function.

    profile.py COMMAND ARG...

On the instruction clock a timer of the kernel's own perf events goes off every PERIOD
instructions and notes where it was. What runs with interrupts off is noted where they are
switched on again. The command's own instructions are left out, and idle time as well.
"""

import bisect
import ctypes
import mmap
import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

PERIOD = 10007  # a prime: in step with nothing
PAGES = 1024  # a power of two: of samples, besides the first, which has the cursors
PERF_EVENT_OPEN = 298
ATTR_SIZE = 112
DATA_HEAD = 1024  # in the first page
KERNEL_MODE, SAMPLE = 1, 9
SHOWN = 24
KALLSYMS = Path("/proc/kallsyms")
IDLE = {"pv_native_safe_halt", "default_idle", "do_idle", "cpuidle_enter_state"}


class Samples:
    """The kernel's ring of samples of CPU 0."""

    def __init__(self) -> None:
        software, cpu_clock, sample_ip = 1, 0, 1
        attr = struct.pack("IIQQQ", software, ATTR_SIZE, cpu_clock, PERIOD, sample_ip)
        attr = attr.ljust(ATTR_SIZE, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.syscall(PERF_EVENT_OPEN, attr, -1, 0, -1, 0)
        if self.fd < 0:
            sys.exit(f"perf events cannot be had: {os.strerror(ctypes.get_errno())}")
        self.ring = mmap.mmap(self.fd, (1 + PAGES) * mmap.PAGESIZE)

    def addresses(self) -> list[int]:
        """Where the kernel was, a sample each. The ring must not have overflowed."""
        (head,) = struct.unpack_from("Q", self.ring, DATA_HEAD)
        if head > PAGES * mmap.PAGESIZE:
            sys.exit("more samples than fit")
        found: list[int] = []
        at = mmap.PAGESIZE
        while at < mmap.PAGESIZE + head:
            kind, misc, size = struct.unpack_from("IHH", self.ring, at)
            if kind == SAMPLE and misc & 7 == KERNEL_MODE:
                found += struct.unpack_from("Q", self.ring, at + 8)
            at += size
        return found


class Symbols:
    """The kernel's functions by address."""

    def __init__(self) -> None:
        table = sorted(
            (int(words[0], 16), words[2])
            for words in map(str.split, KALLSYMS.read_text(encoding="ascii").splitlines())
            if words[1] in "tTwW"
        )
        self.starts = [start for start, _ in table]
        self.names = [name for _, name in table]

    def name(self, address: int) -> str:
        """The function that ADDRESS is in."""
        return self.names[bisect.bisect(self.starts, address) - 1]


def main() -> None:
    """One command."""
    samples = Samples()
    done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True, check=False)
    addresses = samples.addresses()
    print(done.stdout, end="")
    if done.returncode != 0:
        sys.exit(f"'{' '.join(sys.argv[1:])}' ended with status {done.returncode}")
    symbols = Symbols()
    counts = Counter(symbols.name(each) for each in addresses)
    for name in IDLE:
        del counts[name]
    total = counts.total()
    print(f"{total} samples in the kernel, one in {PERIOD} instructions")
    for name, count in counts.most_common(SHOWN):
        print(f"{100 * count / total:5.1f} %  {name}")


if __name__ == "__main__":
    main()
