"""make run, the main job: perftest over soft-RoCE, on ordinary and on ODP memory.

One machine, two processes, a row for each program and kind of memory. What
was measured and every program's own output stay in build/run/KERNEL/, or in
the folder that is given as argument.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from twostep.flavours import flavour
from twostep.kernel import Kernel, kernel_for, steps_for
from twostep.paths import BUILD, SRC, on_host
from twostep.problem import Problem, reporting
from twostep.progress import Steps
from twostep.userland import steps_for_userland, userland

SECONDS = 600
ROWS = 8
COLUMNS = ("program", "memory", "bytes", "MiB/s", "usec", "page faults", "data")
WIDTHS = (12, 8, 7, 8, 7, 11, 0)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _data(said: str) -> str:
    """rdma-data's verdict, for the table."""
    words = said.split()
    if words[0] == "exact":
        return f"exact in {words[1]} transfers"
    found = re.match(r"wrong .* (in \d+ of \d+ transfers)", said)
    return f"WRONG {found[1]}" if found else said.replace("wrong", "WRONG", 1)


def _line(words: tuple[str, ...]) -> str:
    cells = []
    for at, (word, width) in enumerate(zip(words, WIDTHS)):
        cells.append(word.ljust(width) if at < 2 or not width else word.rjust(width))
    return "  ".join(cells).rstrip()


def table(rows: list[dict[str, Any]], kernel: Kernel) -> str:
    """The table as the user sees it."""
    lines = [
        f"soft-RoCE in linux {kernel.release}, one machine, two processes, RC, path MTU 1024",
        "",
        _line(COLUMNS),
    ]
    for row in rows:
        start = (row["program"], row["memory"], str(row["size"]))
        if row["refused"] or row["failed"]:
            what = row["refused"] or "FAILED: " + row["failed"]
            lines.append(_line(start + ("", "", "", "")) + "  " + what)
            continue
        lines.append(
            _line(
                start
                + (_number(row["bandwidth"], 1), _number(row["latency"], 1))
                + (row["faults"], _data(row["data"]))
            )
        )
    return "\n".join(lines) + "\n"


def measure(kernel: Kernel, folder: Path, steps: Steps) -> list[dict[str, Any]]:
    """Boot KERNEL and run every row; the outputs go to FOLDER."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(SRC / "ci/guest/perftest.py", folder)
    step = steps.start("ib_write_bw and its friends over rxe")
    words = ["ci/vm", "--kernel", kernel.flavour, "--rxe", "--cpus", "2", "--timeout", str(SECONDS)]
    log = folder / "guest.log"
    step.run(
        [str(SRC / words[0]), *words[1:], "--share", str(folder), "--", "./perftest.py", "."],
        log,
        failure="the measurement in the guest failed",
        hint="make shell, and run the programs by hand",
        show=lambda line: f"row {line.split()[0]} of {ROWS}" if line[:1].isdigit() else "booting",
    )
    step.done()
    (folder / "perftest.py").unlink()
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    if not isinstance(rows, list) or len(rows) != ROWS:
        raise Problem("the measurement did not finish all its rows", log=log)
    return rows


@reporting
def main() -> int:
    """The command make run."""
    wanted = flavour(os.environ.get("KERNEL") or "twostep")
    steps = Steps(steps_for_userland() + steps_for(wanted) + 1)
    userland(steps)
    kernel = kernel_for(wanted, steps)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD / "run" / wanted.name
    rows = measure(kernel, folder, steps)
    text = table(rows, kernel)
    (folder / "report.txt").write_text(text, encoding="utf-8")
    print(f"\n{text}\nreport and raw outputs: {on_host(folder)}/", flush=True)
    failed = [row for row in rows if row["failed"]]
    if failed:
        raise Problem(f"{len(failed)} of {ROWS} rows failed")
    # Wrong bytes in a peer are a finding; in a kernel of ours they are a failure.
    wrong = [row for row in rows if not row["refused"] and not row["data"].startswith("exact")]
    if wrong and wanted.ours:
        raise Problem(f"wrong data in {len(wrong)} of {ROWS} rows")
    return 0


if __name__ == "__main__":
    main()
