"""A tree and objects for builds that nobody keeps: prefixes of the series, tests of the build.

There is one in the cache, tree/trial-VERSION with obj/trial. It lives on
between runs, so going from one state of the tree to the next compiles the
difference only, and it begins as a copy of the stock kernel's objects. A real
copy: kbuild writes some files in place, hard links would damage stock's.
"""

import contextlib
import re
import subprocess
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twostep.assemble import MANIFEST, Part, assembled, sync
from twostep.cache import locked
from twostep.flavours import FLAVOURS, Flavour
from twostep.kernel import tree_of
from twostep.objects import forget_other_base, make_objects
from twostep.paths import CACHE
from twostep.progress import Step
from twostep.source import Source

TRIAL = Flavour("trial", "6.12", True, ("base-6.12",))
COMPILED = re.compile(r"^  (?:CC|AS)(?: \[M\])? +(\S+)$", re.M)


@dataclass(frozen=True)
class Trial:
    """The tree and objects, held by the caller alone."""

    base: Source
    tree: Path
    obj: Path
    log: Path

    def build(
        self,
        parts: Sequence[Part],
        *targets: str,
        title: str,
        failure: str,
        later: Container[str] = (),
    ) -> list[str]:
        """Assemble PARTS and make TARGETS; return the objects that were compiled."""
        content = assembled(self.base, parts)
        sync(self.tree, self.base, content)
        offset = self.log.stat().st_size
        make_objects(
            Step(title),
            TRIAL,
            self.tree,
            self.base,
            content,
            self.log,
            *targets,
            failure=failure,
            later=later,
        )
        with self.log.open("rb") as log:
            log.seek(offset)
            return COMPILED.findall(log.read().decode(errors="replace"))


def _seed(obj: Path, base: Source) -> None:
    """Begin with stock's objects, if there are any."""
    stock = CACHE / "obj/stock"
    new = obj.with_name(obj.name + ".new")
    with locked(tree_of(FLAVOURS["stock"], base), "the stock kernel"):
        subprocess.run(["rm", "-rf", str(new), str(obj)], check=True)
        if stock.exists():
            subprocess.run(["cp", "-a", str(stock), str(new)], check=True)
            new.rename(obj)
        else:
            obj.mkdir(parents=True)


@contextlib.contextmanager
def trial(base: Source) -> Iterator[Trial]:
    """The trial tree and objects of BASE, for one caller at a time."""
    tree = CACHE / "tree" / f"trial-{base.version}"
    obj = CACHE / "obj" / TRIAL.name
    log = CACHE / "log/trial.log"
    with locked(tree, "a trial build"):
        if not (tree / MANIFEST).exists() or not obj.exists():
            _seed(obj, base)
        forget_other_base(obj, base)
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(b"")
        yield Trial(base, tree, obj, log)
