"""In the guest: drives a measuring module, counts IOTLB flushes, prints figures.

A figure is a line `NAME VALUE UNIT` a sample, in the order of the rounds; `NAME none UNIT` says
that this kernel has no such thing. A trouble is one sentence on stderr and status 1.

Instructions are read from the module's clock. Flushes are counted from the kernel's own
tracepoints, in rounds of their own: tracing costs instructions.
"""

import errno
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
EVENTS = ("intel_iommu/qi_submit", "iommu/map", "iommu/unmap")
# What qi_submit calls a command that makes the IOMMU forget translations.
FLUSHES = ("iotlb_inv", "p_iotlb_inv")


class Missing(Exception):
    """This kernel has no such thing."""


def flushes(seen: Counter[str]) -> int:
    """How many of the events SEEN are flushes."""
    return sum(seen[kind] for kind in FLUSHES)


class Measuring:
    """The module NAME.ko beside this script, which needs some others, and its group of figures."""

    def __init__(self, name: str, group: str, *needed: str) -> None:
        self.name, self.group, self.needed = name, group, needed
        self.folder = Path("/sys/kernel/debug") / name

    def insert(self) -> None:
        """The module, for what no clock is asked for."""
        commands = [["modprobe", "-a", *self.needed]] if self.needed else []
        for command in [*commands, ["insmod", f"./{self.name}.ko"]]:
            if subprocess.call(command):
                sys.exit(f"'{' '.join(command)}' failed")

    def load(self) -> None:
        """The clock first: without it no count of instructions means anything."""
        self.insert()
        self.run("clock")
        print((self.folder / "results").read_text(encoding="ascii"), end="")

    def run(self, command: str) -> list[list[int]]:
        """One command; the numbers of its result, a list each line."""
        try:
            (self.folder / "run").write_text(command, encoding="ascii")
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise Missing(command) from None
            sys.exit(f"'{command}' failed: {error.strerror}")
        lines = (self.folder / "results").read_text(encoding="ascii").splitlines()
        return [[int(word) for word in line.split() if word.isdigit()] for line in lines]

    def say(self, name: str, values: Sequence[float] | None, unit: str) -> None:
        """The samples of NAME, or that there are none."""
        texts = ["none"] if values is None else [f"{value:.10g}" for value in values]
        for text in texts:
            print(f"{self.group}.{name} {text} {unit}", flush=True)

    def remark(self, name: str, seen: Counter[str]) -> None:
        """What was counted, beside the figure NAME."""
        said = " ".join(f"{kind}={count}" for kind, count in sorted(seen.items()))
        print(f"# {self.group}.{name}: {said}", flush=True)

    def begin_counting(self) -> None:
        """Events are seen from now on, but only those of count()."""
        for name in EVENTS:
            (TRACING / "events" / name / "enable").write_text("1", encoding="ascii")
        (TRACING / "tracing_on").write_text("0", encoding="ascii")
        (TRACING / "buffer_size_kb").write_text("4096", encoding="ascii")

    def end_counting(self) -> None:
        """No events any more."""
        (TRACING / "events/enable").write_text("0", encoding="ascii")

    def count(self, command: str) -> Counter[str]:
        """The events of one command, the commands of qi_submit apart."""
        (TRACING / "trace").write_text("", encoding="ascii")
        (TRACING / "tracing_on").write_text("1", encoding="ascii")
        self.run(command)
        (TRACING / "tracing_on").write_text("0", encoding="ascii")
        found: Counter[str] = Counter()
        for line in (TRACING / "trace").read_text(encoding="utf-8").splitlines():
            match = re.search(r" (qi_submit|map|unmap): (\w+)", line)
            if match:
                found[match[2] if match[1] == "qi_submit" else match[1]] += 1
        if "overrun: 0\n" not in (TRACING / "per_cpu/cpu0/stats").read_text(encoding="ascii"):
            sys.exit("the trace buffer is too small for what was counted")
        return found
