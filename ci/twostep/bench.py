"""make bench: what things cost in our kernel, beside stock and mainline, on the instruction clock.

    BENCH='dma.* nvme.slat_fixed_4k'   a part, by name
    KERNEL='stock twostep'             some of the kernels (all three)
    BASELINE=update                    store the figures as those to be judged by

Each kernel runs in machines with one CPU on which an instruction takes 1 ns: one with QEMU's
edu devices for mapping and one with NVMe for fio (kernel/dma/bench), one for on-demand paging
(kernel/infiniband/bench), one for soft-RoCE (kernel/infiniband/bench-rxe). What needs two CPUs
at once, or counts events of much traffic, has an ordinary machine. The table is printed,
everything is in build/bench.json, and a figure of twostep that got worse than
ci/bench-baseline.json tolerates is the end with status 1. There is no HTML page with plots yet.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twostep.bench_baseline import Baseline
from twostep.bench_module import DMA, RXE, SHARED, UMEM, module_for, require_unchanged
from twostep.bench_results import Figure, parse, remarks, touches, wanted
from twostep.bench_table import KERNELS, table
from twostep.cache import file_digest, locked, publish
from twostep.flavours import flavour
from twostep.kernel import Kernel, kernel_for, steps_for
from twostep.odp_tests import with_nouns
from twostep.paths import BUILD, SRC, lab_key, on_host
from twostep.problem import Problem, reporting, say
from twostep.progress import Steps

SECONDS = 600
EDU = 4  # one for each series of measures, see measure.py


@dataclass(frozen=True)
class Group:
    """Measures that run together: `NAME.*`, made by a script in a machine of its own."""

    name: str
    title: str
    script: Path
    machine: tuple[str, ...]
    module: bool = True
    client: Callable[[], Path] | None = None  # makes a program that the script runs
    icount: bool = True  # else an ordinary machine: for events, and ratios within it


def rxe_cost() -> Path:
    """The program that sends."""
    return with_nouns(RXE / "client/rxe-cost.c")


GROUPS = (
    Group("dma", "mapping", DMA / "measure.py", ("--qemu", " ".join(["-device edu"] * EDU))),
    Group("nvme", "NVMe submission", DMA / "slat.py", ("--nvme", "1G"), module=False),
    Group("odp", "on-demand paging", UMEM / "odp.py", ("--qemu", "-device edu")),
    Group("rxe", "soft-RoCE", RXE / "transfers.py", ("--rxe",), client=rxe_cost),
    Group("rxe", "soft-RoCE's faults and copies", RXE / "copies.py", ("--rxe",), client=rxe_cost,
          icount=False),
)


def measure(group: Group, kernel: Kernel, folder: Path, steps: Steps) -> str:
    """Run one group on one kernel; what its script wrote."""
    step = steps.start(f"{group.title} on {kernel.release}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in (*group.script.parent.glob("*.py"), *SHARED.glob("*.py")):
        shutil.copy(path, folder)
    if group.module:
        shutil.copy(module_for(flavour(kernel.flavour), kernel, group.script.parent), folder)
    if group.client:
        shutil.copy(group.client(), folder)
    require_unchanged(flavour(kernel.flavour), kernel)
    log = folder / "guest.log"
    step.run(
        [str(SRC / "ci/vm"), "--kernel", kernel.flavour, "--timeout", str(SECONDS),
         *(["--icount"] if group.icount else []), *group.machine, "--share", str(folder), "--",
         "sh", "-c", f"./{group.script.name} >figures"],
        log,
        failure=f"{group.title} could not be measured on the {kernel.flavour} kernel",
        show=lambda _: "measuring",
    )
    require_unchanged(flavour(kernel.flavour), kernel)
    step.done()
    return (folder / "figures").read_text(encoding="utf-8")


def _said(*words: str) -> str:
    """The first line that a program says, 'unknown' if it cannot be asked."""
    try:
        done = subprocess.run(words, cwd=SRC, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.splitlines()[0].strip() if done.stdout.strip() else "unknown"


def origin(kernels: Sequence[Kernel]) -> dict[str, Any]:
    """Where the figures come from."""
    git = ("git", "-c", "safe.directory=*")
    dirty = _said(*git, "status", "--porcelain") != "unknown"
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _said(*git, "rev-parse", "HEAD") + (" with changes" if dirty else ""),
        "qemu": _said("qemu-system-x86_64", "--version"),
        "fio": _said("fio", "--version"),
        "lab": lab_key(),
        "kernels": {
            each.flavour: {
                "release": each.release,
                "base": json.loads((each.folder / "origin").read_text(encoding="utf-8"))["base"],
                "key": each.folder.name,
                "config": file_digest(each.folder / "config"),
            }
            for each in kernels
        },
        "clock": "QEMU -icount shift=0,sleep=off: one instruction takes 1 ns",
    }


def report(figures: Sequence[Figure], meta: dict[str, Any]) -> str:
    """The content of bench.json."""
    samples: dict[str, dict[str, tuple[float, ...]]] = {}
    for each in figures:
        samples.setdefault(each.kernel, {})[each.name] = each.samples
    results = [
        {
            "name": each.name,
            "kernel": each.kernel,
            "value": each.value,
            "unit": each.unit,
            "command": f"make bench BENCH={each.name} KERNEL={each.kernel}",
        }
        for each in figures
    ]
    return json.dumps({"meta": {**meta, "samples": samples}, "results": results}, indent=1) + "\n"


def judge(baseline: Baseline, figures: Sequence[Figure]) -> None:
    """A Problem if a figure of twostep got worse; a word if there is nothing to judge by."""
    for peer in KERNELS[:-1]:
        for what in baseline.moved(figures, peer):
            say(f"twostep: not ours, and moved all the same, on {peer}: {what}")
    unknown = baseline.unknown(figures)
    if unknown:
        say(
            f"twostep: {len(unknown)} figures are not in {on_host(baseline.path)} yet, "
            f"the first: {unknown[0]}; store them with BASELINE=update"
        )
    worse = baseline.moved(figures, "twostep")
    if worse:
        raise Problem(
            f"{len(worse)} figures of twostep got worse: " + "; ".join(worse),
            hint="if that is as it should be, make bench BASELINE=update and say why in the commit",
        )


def _asked() -> tuple[list[str], list[str], bool]:
    """The patterns, the kernels, and whether to store: from the environment."""
    patterns = os.environ.get("TWOSTEP_BENCH", "").split()
    kernels = os.environ.get("KERNEL", "").split() or list(KERNELS)
    for name in kernels:
        if name not in KERNELS:
            raise Problem(f"make bench compares {', '.join(KERNELS)}, not '{name}'", status=2)
    update = os.environ.get("TWOSTEP_BASELINE", "")
    if update not in ("", "update"):
        raise Problem(f"BASELINE is '{update}'; it may be update", status=2)
    if not any(touches(group.name, patterns) for group in GROUPS):
        raise Problem(f"no figure is called {' '.join(patterns)}", status=2)
    return patterns, [name for name in KERNELS if name in kernels], bool(update)


def run(patterns: list[str], names: list[str]) -> tuple[list[Figure], dict[str, Any]]:
    """Measure; the figures that PATTERNS ask for, and the meta data."""
    groups = [group for group in GROUPS if touches(group.name, patterns)]
    builds = sum(steps_for(flavour(name)) for name in names)
    steps = Steps(builds + len(names) * len(groups))
    kernels = [kernel_for(flavour(name), steps) for name in names]
    figures: list[Figure] = []
    events: dict[str, list[str]] = {}
    clocks: dict[str, dict[str, float | None]] = {}
    for kernel in kernels:
        for group in groups:
            folder = BUILD / "bench" / kernel.flavour / group.script.stem
            text = measure(group, kernel, folder, steps)
            found = parse(text, kernel.flavour, folder / "figures")
            clock = {each.name: each.value for each in found if each.name.startswith("clock.")}
            clocks.setdefault(kernel.flavour, {}).update(clock)
            figures += [each for each in found if each.name not in clock]
            events.setdefault(kernel.flavour, []).extend(remarks(text))
    chosen = [each for each in figures if wanted(each.name, patterns)]
    if not chosen:
        raise Problem(f"no figure is called {' '.join(patterns)}", status=2)
    meta = {"asked": " ".join(patterns), "calibration": clocks, "events": events}
    return chosen, origin(kernels) | meta


@reporting
def main() -> int:
    """The command make bench."""
    patterns, names, update = _asked()
    baseline = Baseline()
    # The folder of results is one per checkout, and so is the run that fills it.
    with locked(BUILD / "bench", "make bench in this checkout"):
        figures, meta = run(patterns, names)
        publish(BUILD / "bench.json", report(figures, meta))
    print(table(figures, names), end="")
    print(f"all samples: {on_host(BUILD / 'bench.json')}", flush=True)
    if update:
        baseline.update(figures, whole=not patterns and len(names) == len(KERNELS))
        print(f"stored in {on_host(baseline.path)}")
        return 0
    judge(baseline, figures)
    return 0


if __name__ == "__main__":
    main()
