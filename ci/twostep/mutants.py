"""make mutants: plant small bugs in our kernel parts, and see which test of odp-tests finds each.

    MUTANTS='prefetch-* lost-dirty'   by name; without it all
    TEST_SEED=7                       of odp-tests

A mutant is userspace/odp-tests/mutants/NAME.patch: a sentence, and a change of a file of ours.
Each is applied to a copy of the checkout, whose kernel is built and booted; odp-tests runs until
its first failure. A test, a kernel that complains, or one that hangs kills the mutant; one that
passes everything survives. The table is printed, and written to build/mutants/results.md.
"""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from twostep.ours import NOT_OURS
from twostep.paths import BUILD, SRC, on_host
from twostep.problem import Problem, reporting, say
from twostep.source import recorded_version

FOLDER = SRC / "userspace/odp-tests/mutants"
COPY = BUILD / "mutants/src"
SECONDS = 900
TIMED_OUT, LOST = 124, 125

# One MTU of each operation; and nothing that waits for a slow disk or a small memory.
FILTER = "-*.mtu_256:*.mtu_512:*.mtu_2048:*.mtu_4096:life.slow*:pressure.*:two_nodes.*"
GUEST = f"""
modprobe zram
echo 512M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null
swapon /dev/zram0
echo 0 >/sys/kernel/mm/ksm/sleep_millisecs
echo 0 >/sys/kernel/mm/ksm/smart_scan
echo 1 >/sys/kernel/mm/ksm/run
echo 8 >/proc/sys/vm/nr_hugepages
mkfs.ext4 -q /dev/nvme0n1
mount /dev/nvme0n1 /mnt
TMPDIR=/mnt odp-tests --fail-fast --require='*' --seed="$seed" -n 40 -D 5 --filter='{FILTER}'
"""
NODES = (
    "-object memory-backend-ram,id=n0,size=512M -numa node,memdev=n0,cpus=0-1 "
    "-object memory-backend-ram,id=n1,size=512M -numa node,memdev=n1"
)
RUNS = re.compile(r"^#  RUN +(\S+) \.\.\.$", re.M)


@dataclass(frozen=True)
class Fate:
    """What became of a mutant."""

    name: str
    what: str
    killer: str  # a test, or what the kernel did; empty if it survived
    sentence: str
    seconds: float

    def row(self) -> str:
        """Of the table."""
        killer = self.killer or "**survived**"
        return f"| {self.name} | {self.what} | {killer} | {self.sentence} |"


def patch(file: Path, *options: str) -> None:
    """Apply a mutant to the copy, or take it back; exactly, or not at all."""
    words = ["patch", "-s", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "-i", str(file), *options]
    done = subprocess.run(words, cwd=COPY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"the mutant {file.stem} does not apply: {done.stdout.strip()}")


def _killed_by(status: int, said: str) -> tuple[str, str]:
    """The killer and its sentence; nothing if all passed."""
    failed = re.search(r"^not ok \d+ (\S+)(?: # *(.*))?$", said, re.M)
    if failed:
        return f"`{failed[1]}`", failed[2] or ""
    test = f"`{RUNS.findall(said)[-1]}`"
    if status == LOST:
        told = re.search(r"^twostep: the guest's kernel reported: (.*)$", said, re.M)
        return test, told[1] if told else "the guest is lost"
    if status == TIMED_OUT:
        return test, f"not done in {SECONDS} s"
    return ("", "") if status == 0 else (test, f"status {status}")


def _run(name: str, seed: str) -> tuple[str, str]:
    """odp-tests in the kernel of the copy; the killer and its sentence."""
    # In the copy's place everything is the copy's.
    there = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", there, "sh", COPY, SRC,
         "ci/vm", "--rxe", "--mem", "1G", "--qemu", NODES, "--nvme", "128M",
         "--timeout", str(SECONDS), "--", "env", f"seed={seed}", "sh", "-ec", GUEST],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )  # fmt: skip
    log = BUILD / "mutants" / f"{name}.log"
    log.write_text(done.stdout, encoding="utf-8")
    if not RUNS.search(done.stdout):
        raise Problem(f"with {name} no test ran: {on_host(log)}")
    return _killed_by(done.returncode, done.stdout)


def _fate(file: Path, seed: str) -> Fate:
    what = file.read_text(encoding="utf-8").split("\n", 1)[0]
    began = time.monotonic()
    patch(file)
    try:
        killer, sentence = _run(file.stem, seed)
    finally:
        patch(file, "-R")
    return Fate(file.stem, what, killer, sentence, time.monotonic() - began)


def mutants(names: str = "") -> list[Path]:
    """Their patches, by name."""
    wanted = names.split() or ["*"]
    found = [
        file
        for file in sorted(FOLDER.glob("*.patch"))
        if any(fnmatch.fnmatch(file.stem, name) for name in wanted)
    ]
    if not found:
        raise Problem(f"there is no mutant '{names}'", status=2)
    return found


def copy() -> None:
    """The checkout again, for mutants to be applied to."""
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(SRC, COPY, ignore=shutil.ignore_patterns(*NOT_OURS), symlinks=True)


@reporting
def main() -> int:
    """The command make mutants."""
    chosen = mutants(os.environ.get("MUTANTS", ""))
    seed = os.environ.get("TEST_SEED") or "1"
    copy()
    killer, sentence = _run("nothing", seed)
    if killer:
        raise Problem(f"without a mutant {killer} fails already: {sentence}")
    fates = []
    for number, file in enumerate(chosen, 1):
        fates.append(_fate(file, seed))
        end = fates[-1].killer or "survived"
        say(f"[{number}/{len(chosen)}] {file.stem}: {end}, {fates[-1].seconds:.0f} s")
    killed = sum(bool(fate.killer) for fate in fates)
    lines = [
        f"{killed} of {len(fates)} mutants killed; linux {recorded_version()}, seed {seed}",
        "",
        "| mutant | what it breaks | killed by | which says |",
        "|---|---|---|---|",
        *(fate.row() for fate in fates),
    ]
    table = "\n".join(lines) + "\n"
    results = BUILD / "mutants/results.md"
    results.write_text(table, encoding="utf-8")
    print(table, end="")
    say(f"the table is in {on_host(results)}, what each run said beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
