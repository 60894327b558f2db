#!/usr/bin/env python3
"""In the guest, on two CPUs: the faults of much traffic, and copies beside each other."""

import subprocess
import sys
from pathlib import Path

from cost import BENCH, cost_or_none

FRAME = 4200  # holds the largest path MTU: fewer packets for a GiB
COUNTER = Path("/sys/class/infiniband/rxe0/ports/1/hw_counters/odp_faults")
TRACING = Path("/sys/kernel/tracing")
# What a driver calls to fault pages in; counted where the device does not count.
PROBE = "rxe_faults"
FAULT = "ib_umem_odp_map_dma_and_lock"


def begin_counting() -> None:
    """Faults are counted from now on."""
    if not COUNTER.exists():
        (TRACING / "kprobe_events").write_text(f"p:{PROBE} {FAULT}\n", encoding="ascii")
        (TRACING / f"events/kprobes/{PROBE}/enable").write_text("1", encoding="ascii")


def counted() -> int:
    """The faults until now."""
    if COUNTER.exists():
        return int(COUNTER.read_text(encoding="ascii"))
    for line in (TRACING / "kprobe_profile").read_text(encoding="ascii").splitlines():
        name, hits, _ = line.split()
        if name == PROBE:
            return int(hits)
    sys.exit(f"no probe of {FAULT}")


def fault_measure() -> None:
    """1 GiB written to memory that nobody touched."""
    begin_counting()
    before = counted()
    done = cost_or_none("write-cold")
    faults = counted() - before
    if done is not None and not faults:
        sys.exit("1 GiB was written to absent pages without a fault")
    BENCH.say("faults_per_gib", None if done is None else [faults], "faults")


def copy_measure() -> None:
    """Two CPUs beside one; of each the round that others disturbed least."""
    times = cost_or_none("copy-beside")
    ratio = None
    if times:
        one, two = times[::2], times[1::2]
        rounds = " ".join(f"{each:.0f}" for each in times)
        print(f"# rxe.copy2_over_copy1: nanoseconds by turns {rounds}", flush=True)
        ratio = [2 * min(one) / min(two)]
    BENCH.say("copy2_over_copy1", ratio, "ratio")


def main() -> None:
    """Everything, in one machine."""
    subprocess.run(["ip", "link", "set", "d0", "mtu", str(FRAME)], check=True)
    BENCH.insert()
    copy_measure()
    fault_measure()


if __name__ == "__main__":
    main()
