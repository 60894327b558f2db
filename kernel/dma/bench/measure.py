#!/usr/bin/env python3
"""In the guest: has dma_bench.ko measure, prints a line `NAME VALUE UNIT` for every sample.

The samples of a name are in the order of their rounds. A line `NAME none UNIT` says that this
kernel has no such thing. A trouble is one sentence on stderr and status 1.

Instructions are read from the module's clock. IOTLB flushes are counted from the kernel's
own tracepoints, in rounds of their own: tracing costs instructions.
"""

import errno
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

MODULE = Path("/sys/kernel/debug/dma_bench")
TRACING = Path("/sys/kernel/tracing")
EVENTS = ("intel_iommu/qi_submit", "iommu/map", "iommu/unmap")
# What qi_submit calls a command that makes the IOMMU forget translations.
FLUSHES = ("iotlb_inv", "p_iotlb_inv")

# The best that a kernel has for many pages, and for a block; each series under its suffix.
BEST = ("many", "hand", "oneshot")
BLOCK = ("congruent", "hand", "oneshot")
SERIES = {"": BEST, "_each": ("each",), "_hand": ("hand",)}
COUNTS = (1, 8, 64, 512)
LIVE = (1, 1000, 100000)


class Missing(Exception):
    """This kernel has no such thing."""


def run(command: str) -> list[list[int]]:
    """One command of the module; the numbers of its result, a list each line."""
    try:
        (MODULE / "run").write_text(command, encoding="ascii")
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise Missing(command) from None
        sys.exit(f"'{command}' failed: {error.strerror}")
    lines = (MODULE / "results").read_text(encoding="ascii").splitlines()
    return [[int(word) for word in line.split() if word.isdigit()] for line in lines]


def say(name: str, values: list[float] | None, unit: str) -> None:
    """The samples of NAME, or that there are none."""
    texts = ["none"] if values is None else [f"{value:.10g}" for value in values]
    for text in texts:
        print(f"dma.{name} {text} {unit}", flush=True)


def first_way(ways: tuple[str, ...], shape: str) -> str | None:
    """The first of WAYS that this kernel has."""
    for way in ways:
        try:
            run(f"open {way} {shape}")
        except Missing:
            continue
        run("close")
        return way
    return None


def time_pair(names: tuple[str, str], ways: tuple[str, ...], shape: str, pages: int) -> None:
    """Instructions of link and of unlink, for each page."""
    way = first_way(ways, shape)
    rounds = run(f"time {way} {shape}") if way else None
    unit = "instructions/page" if pages > 1 else "instructions"
    for at, name in enumerate(names):
        say(name, None if rounds is None else [each[at] / pages for each in rounds], unit)


def events() -> Counter[str]:
    """The events in the trace, the commands of qi_submit apart."""
    found: Counter[str] = Counter()
    for line in (TRACING / "trace").read_text(encoding="utf-8").splitlines():
        match = re.search(r" (qi_submit|map|unmap): (\w+)", line)
        if match:
            found[match[2] if match[1] == "qi_submit" else match[1]] += 1
    overrun = (TRACING / "per_cpu/cpu0/stats").read_text(encoding="ascii")
    if "overrun: 0\n" not in overrun:
        sys.exit("the trace buffer is too small for what was counted")
    return found


def count_one(command: str) -> Counter[str]:
    """The events of one command."""
    (TRACING / "trace").write_text("", encoding="ascii")
    (TRACING / "tracing_on").write_text("1", encoding="ascii")
    run(command)
    (TRACING / "tracing_on").write_text("0", encoding="ascii")
    return events()


def count_pair(names: tuple[str, str], ways: tuple[str, ...], shape: str) -> None:
    """IOTLB flushes of a link and of an unlink."""
    way = first_way(ways, shape)
    seen: dict[str, Counter[str]] = {}
    if way:
        run(f"open {way} {shape}")
        for command in ("link", "unlink", "link", "unlink"):
            seen[command] = count_one(command)
        run("close")
        if not any(seen["unlink"][kind] for kind in FLUSHES):
            sys.exit(f"no flush was seen when {way} unlinked {shape}: {dict(seen['unlink'])}")
    for name, command in zip(names, ("link", "unlink")):
        number = float(sum(seen[command][kind] for kind in FLUSHES)) if way else None
        say(f"{name}_flushes", None if number is None else [number], "flushes")
        if way:
            said = " ".join(f"{kind}={count}" for kind, count in sorted(seen[command].items()))
            print(f"# dma.{name}: {said}")


def page_measures() -> None:
    """Scattered pages, and blocks of 2 MiB."""
    run("device 0")
    for number in COUNTS:
        shape = str(number)
        for suffix, ways in SERIES.items():
            names = (f"link_{number}{suffix}", f"unlink_{number}{suffix}")
            time_pair(names, ways, shape, number)
        time_pair((f"map_{number}", f"unmap_{number}"), ("oneshot",), shape, number)
    for shape in ("2m", "2m_offset"):
        time_pair((f"link_{shape}", f"unlink_{shape}"), BLOCK, shape, 1)
        time_pair((f"link_{shape}_pfns", f"unlink_{shape}_pfns"), ("many",), shape, 1)
        time_pair((f"map_{shape}", f"unmap_{shape}"), ("oneshot",), shape, 1)


def flush_measures() -> None:
    """The same again, counting events."""
    for name in EVENTS:
        (TRACING / "events" / name / "enable").write_text("1", encoding="ascii")
    (TRACING / "tracing_on").write_text("0", encoding="ascii")
    (TRACING / "buffer_size_kb").write_text("4096", encoding="ascii")
    for suffix, ways in SERIES.items():
        count_pair((f"link_512{suffix}", f"unlink_512{suffix}"), ways, "512")
    count_pair(("map_512", "unmap_512"), ("oneshot",), "512")
    count_pair(("link_2m", "unlink_2m"), BLOCK, "2m")
    (TRACING / "events/enable").write_text("0", encoding="ascii")


def range_measures() -> None:
    """Reserving and freeing while other ranges live; each series on a device of its own."""
    series = [
        (device, f"_{size.lower()}_live_{live}", f"replace {size} {live}")
        for device, size in ((1, "64K"), (2, "1G"))
        for live in LIVE
    ] + [(3, f"_mixed_live_{live}", f"churn {live}") for live in LIVE[1:2] + (10000,)]
    for device, suffix, command in series:
        run(f"device {device}")
        try:
            rounds: list[list[int]] | None = run(command)
        except Missing:
            rounds = None
        for at, name in ((0, "reserve"), (3, "free")):
            mean = None if rounds is None else [each[at] / each[at + 1] for each in rounds]
            say(name + suffix, mean, "instructions")
            if name == "reserve":
                worst = None if rounds is None else [float(each[at + 2]) for each in rounds]
                say(f"{name}{suffix}_worst", worst, "instructions")


def main() -> None:
    """The clock first: without it nothing here means anything."""
    subprocess.run(["insmod", "./dma_bench.ko"], check=True)
    run("clock")
    for line in (MODULE / "results").read_text(encoding="ascii").splitlines():
        print(line)
    page_measures()
    flush_measures()
    range_measures()


if __name__ == "__main__":
    main()
