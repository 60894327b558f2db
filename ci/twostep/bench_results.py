"""What a guest has measured: lines `NAME VALUE UNIT`, a line a sample, in the order of the rounds.

VALUE is `none` where the kernel has no such thing: then the figure is null, never 0. Lines
that begin with # are remarks. Anything else is a fault of the measuring script, and said.
"""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twostep.problem import Problem

LINE = re.compile(r"^([a-z]+\.\w+) (none|-?\d+(?:\.\d+)?(?:e[+-]\d+)?) (\S+)$")
QUOTED_ROUND = 3  # two rounds warm caches


@dataclass(frozen=True)
class Figure:
    """One measure of one kernel."""

    name: str
    kernel: str
    unit: str
    samples: tuple[float, ...]  # none: the kernel has no such thing

    @property
    def value(self) -> float | None:
        """What is quoted: the third round, or the median where rounds are alike by chance only.

        On-demand paging and soft-RoCE sleep, so interrupts stay on: the smallest round is the
        one with the fewest.
        """
        if not self.samples:
            return None
        if self.name.startswith(("odp.", "rxe.")):
            return round(min(self.samples), 3 if self.unit == "ratio" else 2)
        if self.name.startswith("nvme.") or self.name.endswith("_worst"):
            chosen = statistics.median(self.samples)
        else:
            chosen = self.samples[min(QUOTED_ROUND, len(self.samples)) - 1]
        return round(chosen, 2)


def parse(text: str, kernel: str, log: Path | None = None) -> list[Figure]:
    """The figures in TEXT, in the order of their first lines."""
    units: dict[str, str] = {}
    samples: dict[str, list[float]] = {}
    absent = set()
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.match(line)
        if match is None:
            raise Problem(f"the {kernel} guest wrote what is no figure: {line[:80]}", log=log)
        name, value, unit = match.groups()
        if units.setdefault(name, unit) != unit:
            raise Problem(f"the {kernel} guest gave {name} in {units[name]} and in {unit}", log=log)
        samples.setdefault(name, [])
        if value == "none":
            absent.add(name)
        else:
            samples[name].append(float(value))
    for name in absent:
        if samples[name]:
            raise Problem(f"the {kernel} guest gave {name} a value and said it has none", log=log)
    return [Figure(name, kernel, units[name], tuple(each)) for name, each in samples.items()]


def remarks(text: str) -> list[str]:
    """The remarks in TEXT: what else was counted."""
    return [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]


def wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether NAME is asked for; no pattern asks for everything."""
    return not patterns or any(
        re.fullmatch(re.escape(each).replace(r"\*", ".*"), name) for each in patterns
    )


def touches(group: str, patterns: Sequence[str]) -> bool:
    """Whether PATTERNS may ask for a name that begins with GROUP and a dot."""
    start = f"{group}."
    fixed = [each.split("*")[0] for each in patterns]
    return not patterns or any(
        each.startswith(start) or ("*" in whole and start.startswith(each))
        for each, whole in zip(fixed, patterns)
    )
