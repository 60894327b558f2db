"""Does each prefix of the series build? A reviewer takes the patches one by one.

The prefixes are the base alone, then the base with the first area, with the
first two, and so on. One that has built is remembered by the key of everything
it was made from.

`python3 -m twostep.prefixes` checks kernel/series.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twostep import config, source
from twostep.assemble import Content, Part, areas, assembled, series
from twostep.cache import key, require_space
from twostep.kernel import kernel_key
from twostep.paths import CACHE
from twostep.problem import reporting
from twostep.progress import Steps
from twostep.source import Source
from twostep.trial import TRIAL, Trial, trial

KNOWN = CACHE / "prefix"  # an empty file for each prefix that has built
KEPT = 200
SPACE_GIB = 2
OPTION = re.compile(r"^\s*(?:menu)?config[ \t]+(\w+)", re.M)


@dataclass(frozen=True)
class Tally:
    """How many prefixes were built now, and how many had been before."""

    built: int
    known: int

    def __str__(self) -> str:
        total = self.built + self.known
        return (
            f"{total} prefix{'' if total == 1 else 'es'} of the series build"
            f"{'s' if total == 1 else ''}: {self.built} built now, "
            f"{self.known} unchanged since they last did"
        )


def prefixes(parts: Sequence[Part]) -> list[tuple[str, list[Part]]]:
    """Each prefix, named by the area it ends with; the first is the base alone."""
    found: list[tuple[str, list[Part]]] = [("", [])]
    for area, own in areas(parts):
        found.append((area, found[-1][1] + own))
    return found


def _options(base: Source, content: Content, paths: Sequence[str]) -> set[str]:
    """The options that PATHS, Kconfig files of ours, define in this state of the tree."""
    found = set()
    for path in paths:
        blob = content.get(path)
        there = base.tree / path
        data = blob.data if blob else there.read_bytes() if there.exists() else b""
        found.update(OPTION.findall(data.decode()))
    return {f"CONFIG_{name}" for name in found}


def later_options(base: Source, prefix: Sequence[Part], parts: Sequence[Part]) -> frozenset[str]:
    """The options of the whole series that do not exist yet with PREFIX.

    The fragments may ask for them, and only the whole series can be held to that.
    """
    whole = assembled(base, parts)
    paths = [path for path in whole if Path(path).name.startswith("Kconfig")]
    now = _options(base, assembled(base, prefix), paths)
    return frozenset(_options(base, whole, paths) - now)


def _build(
    trial_: Trial, area: str, prefix: Sequence[Part], later: frozenset[str], title: str
) -> None:
    ends = f"the series does not build when it ends with {area}"
    trial_.build(
        prefix,
        "vmlinux",
        "modules",
        title=title,
        failure=ends if area else "the base does not build without any of the series",
        later=later,
    )


def check(base: Source, parts: Sequence[Part], *, anew: bool = False) -> Tally:
    """Build every prefix of PARTS that is not known to build; a Problem names the area.

    ANEW builds what has an area in it even if it is known.
    """
    built = 0
    asked = config.wishes_of(TRIAL).keys()
    every = prefixes(parts)
    KNOWN.mkdir(parents=True, exist_ok=True)
    for number, (area, prefix) in enumerate(every, 1):
        later = later_options(base, prefix, parts) & asked
        stamp = KNOWN / key([kernel_key(TRIAL, base, prefix), *sorted(later)])
        if stamp.exists() and not (anew and area):
            stamp.touch()
            continue
        require_space(CACHE, SPACE_GIB, "a trial build")
        title = f"[{number}/{len(every)}] the base{f' with all up to {area}' if area else ' alone'}"
        began = time.monotonic()
        with trial(base) as held:
            _build(held, area, prefix, later, title)
        print(f"{area or 'the base alone'}: {time.monotonic() - began:.0f} s", flush=True)
        built += 1
        stamp.touch()
    for old in sorted(KNOWN.iterdir(), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return Tally(built, len(every) - built)


@reporting
def main() -> int:
    """The prefixes of this checkout's series."""
    print(check(source.source("6.12", Steps(1)), series()))
    return 0


if __name__ == "__main__":
    main()
