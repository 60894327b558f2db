"""make run, the main job: perftest over soft-RoCE, on ordinary and on ODP memory.

One machine, two processes, a row for each program and kind of memory
(ci/guest/perftest.py). What was measured and every program's own output stay
in build/run/KERNEL/, or in the folder that is given as argument.
"""

import json
import os
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
COLUMNS = ("program", "memory", "bytes", "MiB/s", "first usec", "warm usec", "faults", "taken",
           "data")  # fmt: skip
WIDTHS = (12, 18, 6, 6, 11, 11, 6, 6, 0)


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percentiles(values: list[float | None] | None) -> str:
    return " / ".join(_number(value) for value in values) if values else "-"


def _data(row: dict[str, Any]) -> str:
    """perftest's verdict, for the table."""
    checked = f"{row['checked'] / (1 << 20):.1f} MiB"
    return f"WRONG: {row['wrong']} bytes of {checked}" if row["wrong"] else f"exact: {checked}"


def _line(words: tuple[str, ...]) -> str:
    cells = []
    for at, (word, width) in enumerate(zip(words, WIDTHS)):
        cells.append(word.ljust(width) if at < 2 or not width else word.rjust(width))
    return "  ".join(cells).rstrip()


def table(rows: list[dict[str, Any]], kernel: Kernel) -> str:
    """The table as the user sees it."""
    lines = [
        f"soft-RoCE in linux {kernel.release}, one machine, two processes, RC, path MTU 1024",
        "usec: 50 % / 99 % of the messages that use a page first, and of the others",
        "",
        _line(COLUMNS),
    ]
    for row in rows:
        start = (row["program"], row["memory"], str(row["size"]))
        if row["refused"] or row["failed"]:
            what = row["refused"] or "FAILED: " + row["failed"]
            lines.append(_line(start + ("", "", "", "", "")) + "  " + what)
            continue
        lines.append(
            _line(
                start
                + (_number(row["bandwidth"], 1), _percentiles(row["first"]))
                + (_percentiles(row["warm"]), _number(row["faults"]))
                + (_number(row["taken"]), _data(row))
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
        show=lambda line: f"row {line.split(':')[0]}" if line[:1].isdigit() else "booting",
    )
    step.done()
    (folder / "perftest.py").unlink()
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    if not isinstance(rows, list) or "finished" not in log.read_text(encoding="utf-8"):
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
    # What mainline does is a finding.
    peer = wanted.name == "mainline"
    if failed and not peer:
        raise Problem(f"{len(failed)} of {len(rows)} rows failed")
    wrong = [row for row in rows if row["wrong"]]
    if wrong and not peer:
        raise Problem(f"wrong data in {len(wrong)} of {len(rows)} rows")
    return 0


if __name__ == "__main__":
    main()
