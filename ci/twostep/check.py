"""make check: runs tests, prints KTAP on stdout, ends with the summary line.

    SUITE=smoke, SUITE=vm     one suite
    TESTS='nvme/* vm/status'  tests by name
    JOBS=1                    how many at a time
"""

import concurrent.futures
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from twostep import tests
from twostep.accel import accelerator
from twostep.cache import locked
from twostep.flavours import flavour
from twostep.guest import guest_folder
from twostep.kernel import kernel_for, steps_for
from twostep.ktap import FAIL, PASS, SKIP
from twostep.options import Machine
from twostep.paths import BUILD, on_host
from twostep.problem import Problem, reporting, say
from twostep.progress import Steps
from twostep.tests import Run, Test
from twostep.userland import steps_for_userland, userland

FAILED_LINES = 40


def _build(chosen: list[Test]) -> None:
    """Build every kernel that the chosen tests boot, before the clock of any of them runs."""
    order = ["twostep", "stock", "debug", "mainline"]
    names = sorted({name for test in chosen for name in test.builds}, key=order.index)
    kernels = sum(steps_for(flavour(name)) for name in names)
    steps = Steps(kernels + (steps_for_userland() if names else 0))
    if names:
        userland(steps)
    for name in names:
        kernel_for(flavour(name), steps)
    if names:
        # What else a first machine would do and say before it boots.
        accelerator(names[0])
        with tempfile.TemporaryDirectory() as folder:
            guest_folder(Machine(["true"]), Path(folder))


def _runs(chosen: list[Test], jobs: int) -> Iterator[Run]:
    """Run the tests, JOBS at a time, those that want to be alone at the end."""
    # The longest first, as their deadlines tell, so that none is left to run by itself.
    together = sorted(
        (test for test in chosen if not test.alone), key=lambda test: test.seconds, reverse=True
    )
    folder = BUILD / "check"
    shutil.rmtree(folder, ignore_errors=True)
    with (
        concurrent.futures.ThreadPoolExecutor(jobs) as workers,
        concurrent.futures.ThreadPoolExecutor(1) as bystander,
    ):
        waiting = {
            (bystander if test.waits else workers).submit(tests.run, test, folder / test.name)
            for test in together
        }
        while waiting:
            done, waiting = concurrent.futures.wait(
                waiting, timeout=60, return_when=concurrent.futures.FIRST_COMPLETED
            )
            if not done:
                say(f"  still running, {len(waiting)} tests to go")
            for future in done:
                yield future.result()
    for test in chosen:
        if test.alone:
            yield tests.run(test, folder / test.name)


def _print(run: Run, number: int) -> None:
    """One test as KTAP: its own results below it, its output if it failed."""
    failed = [result for result in run.results if result.outcome == FAIL]
    if failed:
        for line in run.output.rstrip().splitlines()[-FAILED_LINES:]:
            print(f"# {line}")
        for result in failed:
            print(f"# {result.name}: {result.reason}")
    if len(run.results) == 1:
        print(run.results[0].line(number), flush=True)
        return
    print("    KTAP version 1")
    print(f"    1..{len(run.results)}")
    for at, result in enumerate(run.results, 1):
        print("    " + result.line(at))
    print(f"{'not ok' if failed else 'ok'} {number} {run.test.name}", flush=True)


def _check(chosen: list[Test], jobs: int) -> dict[str, int]:
    """Run and print it all, the summary last."""
    began = time.monotonic()
    print("KTAP version 1")
    print(f"1..{len(chosen)}")
    counts = {PASS: 0, FAIL: 0, SKIP: 0}
    slow: list[tuple[float, str]] = []
    for number, run in enumerate(_runs(chosen, jobs), 1):
        _print(run, number)
        slow.append((run.seconds, run.test.name))
        for result in run.results:
            counts[result.outcome] += 1
    slow.sort(reverse=True)
    times = "".join(f"{seconds:6.0f} s  {name}\n" for seconds, name in slow)
    (BUILD / "check" / "times").write_text(times)
    longest = ", ".join(f"{name} {seconds:.0f} s" for seconds, name in slow[:3])
    print(f"# {time.monotonic() - began:.0f} s; longest: {longest}")
    print(f"# the output of every test is in {on_host(BUILD / 'check')}")
    print(f"{counts[PASS]} passed, {counts[FAIL]} failed, {counts[SKIP]} skipped", flush=True)
    return counts


@reporting
def main() -> int:
    """The command make check."""
    suite, names = os.environ.get("SUITE", ""), os.environ.get("TESTS", "")
    jobs = os.environ.get("JOBS") or str(os.cpu_count() or 1)
    if not jobs.isdigit() or int(jobs) < 1:
        raise Problem(f"JOBS is '{jobs}'; it must be a number from 1", status=2)
    chosen = tests.find(suite, names)
    if "--list" in sys.argv[1:]:
        for test in chosen:
            print(f"{test.name:40} {test.title}")
        return 0
    _build(chosen)
    # The folder of results is one per checkout, and so is the run that fills it.
    with locked(BUILD / "check", "make check in this checkout"):
        counts = _check(chosen, int(jobs))
    return 1 if counts[FAIL] or not counts[PASS] else 0


if __name__ == "__main__":
    main()
