"""What the host gives its guests: hardware virtualisation, where proved, and a clock.

Some hosts offer a /dev/kvm on which a guest starts and then dies of an
instruction that the host cannot run. So the first run after a boot of the host
starts one small machine on it; the answer is kept until the host boots again.

TWOSTEP_ACCEL=tcg or =kvm decides without a probe.
"""

import os
import subprocess
from pathlib import Path

from twostep.cache import locked, publish
from twostep.program import program
from twostep.paths import CACHE, SRC, lab_key
from twostep.problem import Problem, say

PROBE_SECONDS = 40
# Something of everything: user space, a module, DMA through the vIOMMU.
PROBE = [
    "--nvme", "64M", "--", "sh", "-c",
    "modprobe rdma_rxe && dd if=/dev/urandom of=/dev/nvme0n1 bs=1M count=4 oflag=direct 2>&1"
    " && python3 -c 'print(sum(x*x for x in range(100000)))'",
]


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _usable() -> bool:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return False
    return True


def accelerator(kernel: str) -> str:
    """'kvm' or 'tcg', found out with the kernel flavour that is about to run."""
    asked = os.environ.get("TWOSTEP_ACCEL", "auto")
    if asked in ("tcg", "kvm"):
        return asked
    if asked != "auto":
        raise Problem(f"TWOSTEP_ACCEL is '{asked}'; it may be tcg, kvm or auto", status=2)
    if not _usable():
        return "tcg"
    answer = CACHE / "accel" / f"{_boot()}-{lab_key()}"
    with locked(answer, "the probe of hardware virtualisation"):
        if not answer.exists():
            say("twostep: trying whether this host's /dev/kvm can run a guest (once)")
            probe = subprocess.run(
                [str(SRC / "ci/vm"), "--kernel", kernel, "--timeout", str(PROBE_SECONDS), *PROBE],
                env=dict(os.environ, TWOSTEP_ACCEL="kvm"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            publish(answer, "kvm" if probe.returncode == 0 else "tcg")
            say(f"twostep: it can{'' if probe.returncode == 0 else 'not; guests run under TCG'}")
        return answer.read_text(encoding="ascii")


def tsc_khz() -> int:
    """How fast the time stamp counter of an emulated CPU runs: as the host's own.

    A guest that finds out by itself counts it against emulated timers. On a busy host it may be
    wrong by any factor (88 MHz of 2596 were seen), and a minute of the guest is then two seconds.
    """
    clock = program(SRC / "ci/lab/tsc-khz.c")
    answer = CACHE / "accel" / f"{_boot()}-{clock.parent.name}"
    with locked(answer, "the speed of the host's clock"):
        if not answer.exists():
            measured = subprocess.run([clock], stdout=subprocess.PIPE, text=True, check=True)
            publish(answer, measured.stdout)
        return int(answer.read_text(encoding="ascii"))
