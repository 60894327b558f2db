"""In the guest: runs rxe-cost, the program beside the scripts that measure soft-RoCE."""

import subprocess
import sys

from measuring import Measuring, Missing

BENCH = Measuring("rxe_bench", "rxe", "rdma_rxe")
CANNOT = 4


class WrongBytes(SystemExit):
    """This kernel moved bytes, but not where they belong, or others."""


def cost(*words: str) -> list[float]:
    """What `rxe-cost WORDS` prints, a number each line."""
    done = subprocess.run(["./rxe-cost", *words], stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    said = lines[-1] if lines else "nothing"
    if done.returncode == CANNOT:
        raise Missing(said)
    if done.returncode and " are wrong, the first at " in said:
        raise WrongBytes(said.removeprefix("# "))
    if done.returncode:
        sys.exit(f"'rxe-cost {' '.join(words)}' ended with status {done.returncode}: {said}")
    return [float(line) for line in lines]


def cost_or_none(*words: str) -> list[float] | None:
    """The same; none if this kernel cannot."""
    try:
        return cost(*words)
    except Missing:
        return None
