"""KTAP, the kernel's test output grammar: reading a test's own, writing the run's.

Documentation/dev-tools/ktap.rst of the kernel describes it.
"""

import re
from dataclasses import dataclass

RESULT = re.compile(r"^(\s*)(not ok|ok) \d+(?: -)? ?(.*?)(?:\s*# (SKIP|TODO|XFAIL)\b ?(.*))?$")

PASS, FAIL, SKIP = "pass", "fail", "skip"


@dataclass(frozen=True)
class Result:
    """The outcome of one test or sub-test."""

    name: str
    outcome: str
    reason: str = ""  # why it failed or was skipped

    def line(self, number: int) -> str:
        """As KTAP writes it."""
        text = f"{'not ok' if self.outcome == FAIL else 'ok'} {number} {self.name}"
        return f"{text} # SKIP {self.reason}" if self.outcome == SKIP else text


def is_ktap(text: str) -> bool:
    """Whether a test speaks KTAP rather than by its exit status alone."""
    return re.search(r"^KTAP version 1", text, re.M) is not None


def parse(text: str) -> tuple[list[Result], list[str]]:
    """The leaf results of a KTAP document, and what is wrong with the document."""
    results: list[tuple[int, Result]] = []
    plans: dict[int, list[int]] = {}
    seen: dict[int, int] = {}
    trouble: list[str] = []
    for line in text.splitlines():
        plan = re.match(r"^(\s*)1\.\.(\d+)", line)
        if plan:
            plans.setdefault(len(plan[1]), []).append(int(plan[2]))
            continue
        match = RESULT.match(line)
        if not match:
            continue
        depth = len(match[1])
        outcome = FAIL if match[2] == "not ok" else SKIP if match[4] == "SKIP" else PASS
        seen[depth] = seen.get(depth, 0) + 1
        # A line closes the deeper ones above it: those are the leaves it sums up.
        if results and results[-1][0] > depth:
            leaves_failed = any(
                leaf.outcome == FAIL for indent, leaf in results if indent > depth
            )
            results = [(min(indent, depth), leaf) for indent, leaf in results]
            if outcome == FAIL and not leaves_failed:
                results.append((depth, Result(match[3], FAIL, "failed as a whole")))
            continue
        results.append((depth, Result(match[3], outcome, match[5] or "")))
    for depth, counts in plans.items():
        if sum(counts) != seen.get(depth, 0):
            trouble.append(f"planned {sum(counts)} results, gave {seen.get(depth, 0)}")
    if not plans:
        trouble.append("no plan line (1..N)")
    return [leaf for _, leaf in results], trouble
