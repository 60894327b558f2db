"""The stored figures of make bench, and what counts as worse than they are.

ci/bench-baseline.json holds, besides the figures, the rules of judgement: the first whose
`names` match says how many percent a figure may get worse, and why that many. `percent` null
means told, not judged. Lower is better unless a rule says `better: higher`. Only twostep's
figures are judged; a peer that moved means that something else than our kernel did.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twostep.bench_results import Figure, wanted
from twostep.cache import publish
from twostep.paths import SRC
from twostep.problem import Problem

BASELINE = SRC / "ci/bench-baseline.json"


@dataclass(frozen=True)
class Rule:
    """How far the figures of some names may get worse."""

    names: str
    percent: float | None
    why: str
    higher: bool = False

    def worse(self, before: float, now: float) -> bool:
        """Whether NOW is worse than BEFORE by more than is tolerated."""
        if self.percent is None:
            return False
        slack = abs(before) * self.percent / 100
        return now < before - slack if self.higher else now > before + slack


class Baseline:
    """The file's content."""

    def __init__(self, path: Path = BASELINE) -> None:
        self.path = path
        try:
            self.text: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self.rules = [
                Rule(each["names"], each["percent"], each["why"], each.get("better") == "higher")
                for each in self.text["rules"]
            ]
            self.figures: dict[str, dict[str, float | None]] = self.text["figures"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Problem(f"{path.name} cannot be used: {error!r}") from None
        for rule in self.rules:
            if not rule.why.strip():
                raise Problem(f"{path.name} does not say why {rule.names} has its tolerance")

    def rule(self, name: str) -> Rule:
        """The rule for NAME."""
        for each in self.rules:
            if wanted(name, [each.names]):
                return each
        raise Problem(f"{self.path.name} has no rule for {name}")

    def moved(self, figures: Sequence[Figure], kernel: str) -> list[str]:
        """What of KERNEL got worse than its stored figure, each as a phrase."""
        found = []
        for each in figures:
            before = self.figures.get(each.name, {}).get(kernel)
            if each.kernel != kernel or before is None:
                continue
            rule = self.rule(each.name)
            if each.value is None:
                found.append(f"{each.name} is gone, it was {before:g}")
            elif rule.worse(before, each.value):
                found.append(
                    f"{each.name} is {each.value:g} {each.unit}, it was {before:g} "
                    f"(tolerance {rule.percent:g} %)"
                )
        return found

    def unknown(self, figures: Sequence[Figure]) -> list[str]:
        """The figures of twostep that are judged and have nothing stored to be judged by."""
        return [
            each.name
            for each in figures
            if each.kernel == "twostep"
            and each.value is not None
            and self.rule(each.name).percent is not None
            and self.figures.get(each.name, {}).get("twostep") is None
        ]

    def update(self, figures: Sequence[Figure], whole: bool = False) -> None:
        """Store FIGURES; of those that were not measured now, keep what is stored unless WHOLE."""
        if whole:
            self.figures.clear()
        for each in figures:
            if self.rule(each.name).percent is not None:
                self.figures.setdefault(each.name, {})[each.kernel] = each.value
        self.text["figures"] = dict(sorted(self.figures.items()))
        lines = json.dumps({**self.text, "figures": {}}, indent=1).removesuffix("{}\n}")
        stored = [
            f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in self.text["figures"].items()
        ]
        publish(self.path, lines + "{\n" + ",\n".join(stored) + "\n }\n}\n")
