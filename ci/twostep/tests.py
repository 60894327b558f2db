"""The tests of the repository: where they are, what each says of itself.

A test is an executable ci/tests/SUITE/NAME. Its leading comment lines say

    # test: one sentence, what is true when it passes
    # seconds: 120                 its deadline (60)
    # kernels: twostep debug       run once for each, with KERNEL set (none: once)
    # builds: stock                kernels it needs besides
    # smoke                        also in SUITE=smoke
    # alone                        never beside another test
    # waits                        more than it works: takes none of the JOBS
    # may skip: reason             without this a skip is a failure

It runs in the lab root with the checkout as its folder and a fresh folder in
$TEST_TMP, and passes with status 0, skips with 4, its last output line being
the reason. Or it speaks KTAP on stdout and every result counts.
"""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from twostep import ktap
from twostep.ktap import FAIL, PASS, SKIP, Result
from twostep.paths import SRC
from twostep.problem import Problem

TESTS = SRC / "ci/tests"
SKIPPED = 4
HEADER = re.compile(r"^# (test|seconds|kernels|builds|may skip|smoke|alone|waits)(?:: (.*))?$")


@dataclass(frozen=True)
class Test:
    """One test with one kernel."""

    path: Path
    title: str
    seconds: float = 60
    kernel: str = ""
    builds: tuple[str, ...] = ()
    smoke: bool = False
    alone: bool = False
    waits: bool = False
    may_skip: str = ""

    @property
    def name(self) -> str:
        """As the user selects it and the summary prints it."""
        base = f"{self.path.parent.name}/{self.path.name}"
        return f"{base}@{self.kernel}" if self.kernel else base


@dataclass
class Run:
    """What came of a test."""

    test: Test
    results: list[Result] = field(default_factory=list)
    output: str = ""
    seconds: float = 0


def _read(path: Path) -> list[Test]:
    said: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:30]:
        if not line.startswith("#"):
            break
        match = HEADER.match(line)
        if match:
            said[match[1]] = match[2] or ""
    if "test" not in said:
        raise Problem(f"{path.relative_to(SRC)} does not say what it tests (# test: ...)")
    return [
        Test(
            path,
            said["test"],
            float(said.get("seconds", "60")),
            kernel,
            tuple(said.get("builds", "").split()) + ((kernel,) if kernel else ()),
            "smoke" in said,
            "alone" in said,
            "waits" in said,
            said.get("may skip", ""),
        )
        for kernel in said.get("kernels", "").split() or [""]
    ]


def _matches(pattern: str, name: str) -> bool:
    """Whether PATTERN is NAME, or NAME without its kernel."""
    return any(re.fullmatch(pattern, each) for each in (name, name.split("@")[0]))


def find(suite: str, names: str) -> list[Test]:
    """The tests of SUITE ('' for all, 'smoke' for the quick ones), or those that NAMES match."""
    tests = [
        test
        for path in sorted(TESTS.glob("*/*"))
        if path.is_file() and os.access(path, os.X_OK)
        for test in _read(path)
    ]
    suites = sorted({test.path.parent.name for test in tests})
    if suite and suite != "smoke" and suite not in suites:
        raise Problem(f"unknown suite '{suite}'; there are smoke, {', '.join(suites)}", status=2)
    patterns = [name.replace("*", ".*") for name in names.split()]
    chosen = [
        test
        for test in tests
        if (not suite or test.path.parent.name == suite or (suite == "smoke" and test.smoke))
        and (not patterns or any(_matches(pattern, test.name) for pattern in patterns))
    ]
    if not chosen:
        raise Problem(f"no test is called {names}", status=2)
    return chosen


def _verdict(test: Test, status: int | None, output: str) -> list[Result]:
    last = output.strip().splitlines()[-1].strip() if output.strip() else "no output"
    if status is None:
        return [Result(test.name, FAIL, f"not finished after {test.seconds:g} s")]
    if ktap.is_ktap(output):
        leaves, trouble = ktap.parse(output)
        results = [
            Result(f"{test.name}: {leaf.name}", leaf.outcome, leaf.reason) for leaf in leaves
        ]
        if status != 0 and not any(result.outcome == FAIL for result in results):
            trouble.append(f"exit status {status}")
        if not results:
            trouble.append("no result")
        results += [Result(test.name, FAIL, what) for what in trouble]
    elif status == SKIPPED:
        results = [Result(test.name, SKIP, last.removeprefix("# SKIP").strip())]
    elif status == 0:
        results = [Result(test.name, PASS)]
    else:
        results = [Result(test.name, FAIL, f"status {status}: {last}")]
    return [
        Result(result.name, FAIL, f"skipped, which it may not: {result.reason}")
        if result.outcome == SKIP and not (test.may_skip and result.reason)
        else result
        for result in results
    ]


def run(test: Test, folder: Path) -> Run:
    """Run TEST with FOLDER as its own; it never outlives its deadline."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    env = dict(os.environ, TEST_TMP=str(folder))
    env.pop("KERNEL", None)
    if test.kernel:
        env["KERNEL"] = test.kernel
    log = folder / "output"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(test.path)], cwd=SRC, env=env, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            status: int | None = process.wait(test.seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            # Its VMs end with it, see ci/vm; the rest shares its process group.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    output = log.read_text(encoding="utf-8", errors="replace")
    return Run(test, _verdict(test, status, output), output, time.monotonic() - began)
