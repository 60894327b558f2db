"""The table of make bench: a row a name, a column a kernel, and what we want to reach."""

from collections.abc import Sequence

from twostep.bench_results import Figure

KERNELS = ("stock", "mainline", "twostep")

# At most this, in the unit of the row; and at most this part of stock's own figure.
REACH = {
    "dma.link_512": 100.0,
    "dma.unlink_512": 43.0,
    "dma.unlink_512_flushes": 1.0,
    "dma.link_2m": 2500.0,
    "dma.unlink_2m": 1350.0,
    "dma.link_1": 1400.0,
    "dma.unlink_1": 1300.0,
    "nvme.slat_fixed_64k": 12000.0,
    "nvme.slat_fixed_1m": 16000.0,
    "odp.invalidate_512_flushes": 1.0,
    "odp.register_1t_bytes": 65536.0,
    "odp.bytes_2m_scattered": 4300.0,
    "odp.bytes_2m_huge": 64.0,
    "rxe.faults_per_gib": 520.0,
}
# At least this: higher is better.
AT_LEAST = {
    "rxe.copy2_over_copy1": 1.8,
    "rxe.odp_over_pinned_write_64k": 0.98,
}
OF_STOCK = {
    "nvme.slat_fixed_4k": 1.0,
    "odp.fault_512": 1 / 4,
    "odp.fault_thp": 1 / 40,
    "odp.invalidate_512": 1 / 20,
    "odp.cycle_1g": 1 / 5,
}


def number(value: float | None) -> str:
    """VALUE as a person reads it; none is a dash."""
    if value is None:
        return "-"
    if value == int(value):
        return f"{value:.0f}"
    if abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def reach(name: str, row: dict[str, Figure]) -> float | None:
    """What twostep should not exceed, or should reach, if anything was said of NAME."""
    if name in AT_LEAST:
        return AT_LEAST[name]
    if name in OF_STOCK:
        stock = row["stock"].value if "stock" in row else None
        return None if stock is None else stock * OF_STOCK[name]
    return REACH.get(name)


def _judged(name: str, row: dict[str, Figure]) -> str:
    limit = reach(name, row)
    if limit is None:
        return ""
    ours = row["twostep"].value if "twostep" in row else None
    if ours is None:
        return number(limit)
    reached = ours >= limit if name in AT_LEAST else ours <= limit
    return number(limit) + ("  reached" if reached else "  missed")


def rows(figures: Sequence[Figure]) -> dict[str, dict[str, Figure]]:
    """The figures by name and kernel; what someone wants to reach comes first."""
    found: dict[str, dict[str, Figure]] = {}
    for each in figures:
        found.setdefault(each.name, {})[each.kernel] = each
    return dict(sorted(found.items(), key=lambda item: reach(*item) is None))


def table(figures: Sequence[Figure], kernels: Sequence[str]) -> str:
    """The table as the user sees it."""
    lines = [("name", *kernels, "reach", "unit")]
    for name, row in rows(figures).items():
        cells = [number(row[kernel].value) if kernel in row else "-" for kernel in kernels]
        lines.append((name, *cells, _judged(name, row), next(iter(row.values())).unit))
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:-2], widths[1:-2])]
        cells += [line[-2].ljust(widths[-2]), line[-1]]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text) + "\n"
