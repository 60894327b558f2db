#!/usr/bin/env python3
"""In the guest: has dma_bench.ko measure what mapping costs; measuring.py says how it is told."""

import sys
from collections import Counter

from measuring import Measuring, Missing, flushes

BENCH = Measuring("dma_bench", "dma")

# The best that a kernel has for many pages, and for a block; each series under its suffix.
BEST = ("many", "hand", "oneshot")
BLOCK = ("congruent", "hand", "oneshot")
SERIES = {"": BEST, "_each": ("each",), "_hand": ("hand",)}
COUNTS = (1, 8, 64, 512)
LIVE = (1, 1000, 100000)


def first_way(ways: tuple[str, ...], shape: str) -> str | None:
    """The first of WAYS that this kernel has."""
    for way in ways:
        try:
            BENCH.run(f"open {way} {shape}")
        except Missing:
            continue
        BENCH.run("close")
        return way
    return None


def time_pair(names: tuple[str, str], ways: tuple[str, ...], shape: str, pages: int) -> None:
    """Instructions of link and of unlink, for each page."""
    way = first_way(ways, shape)
    rounds = BENCH.run(f"time {way} {shape}") if way else None
    unit = "instructions/page" if pages > 1 else "instructions"
    for at, name in enumerate(names):
        BENCH.say(name, None if rounds is None else [each[at] / pages for each in rounds], unit)


def count_pair(names: tuple[str, str], ways: tuple[str, ...], shape: str) -> None:
    """IOTLB flushes of a link and of an unlink."""
    way = first_way(ways, shape)
    seen: dict[str, Counter[str]] = {}
    if way:
        BENCH.run(f"open {way} {shape}")
        for command in ("link", "unlink", "link", "unlink"):
            seen[command] = BENCH.count(command)
        BENCH.run("close")
        if not flushes(seen["unlink"]):
            sys.exit(f"no flush was seen when {way} unlinked {shape}: {dict(seen['unlink'])}")
    for name, command in zip(names, ("link", "unlink")):
        BENCH.say(f"{name}_flushes", [flushes(seen[command])] if way else None, "flushes")
        if way:
            BENCH.remark(name, seen[command])


def page_measures() -> None:
    """Scattered pages, and blocks of 2 MiB."""
    BENCH.run("device 0")
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
    BENCH.begin_counting()
    for suffix, ways in SERIES.items():
        count_pair((f"link_512{suffix}", f"unlink_512{suffix}"), ways, "512")
    count_pair(("map_512", "unmap_512"), ("oneshot",), "512")
    count_pair(("link_2m", "unlink_2m"), BLOCK, "2m")
    BENCH.end_counting()


def range_measures() -> None:
    """Reserving and freeing while other ranges live; each series on a device of its own."""
    series = [
        (device, f"_{size.lower()}_live_{live}", f"replace {size} {live}")
        for device, size in ((1, "64K"), (2, "1G"))
        for live in LIVE
    ] + [(3, f"_mixed_live_{live}", f"churn {live}") for live in LIVE[1:2] + (10000,)]
    for device, suffix, command in series:
        BENCH.run(f"device {device}")
        try:
            rounds: list[list[int]] | None = BENCH.run(command)
        except Missing:
            rounds = None
        for at, name in ((0, "reserve"), (3, "free")):
            mean = None if rounds is None else [each[at] / each[at + 1] for each in rounds]
            BENCH.say(name + suffix, mean, "instructions")
            if name == "reserve":
                worst = None if rounds is None else [float(each[at + 2]) for each in rounds]
                BENCH.say(f"{name}{suffix}_worst", worst, "instructions")


def main() -> None:
    """Everything, in one machine."""
    BENCH.load()
    page_measures()
    flush_measures()
    range_measures()


if __name__ == "__main__":
    main()
