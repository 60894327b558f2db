#!/usr/bin/env python3
"""Runs in the guest: our perftest between two processes over rxe0, row by row.

    perftest.py FOLDER

Writes rows.json into FOLDER, with the raw output of every program beside it as NAME.server,
NAME.client and NAME.json. Which ODP rows can run is decided by what the device says of itself,
never by the kernel's name. Every row compares every byte that it moved (--data_validation).
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROGRAMS_FOLDER = Path("/twostep/guest/perftest")
DEVICE = "rxe0"
ADDRESS = "10.7.7.1"
GID_INDEX = "1"
SECONDS = 100  # deadline of one program
# perftest compares two clocks when it starts, and has no figures if something came between.
NO_CLOCK = "perftest could not calibrate its clock, the machine is too busy"
TRIES = 3
PERCENTILES = ("50", "99")
GROUP = Path("/sys/fs/cgroup/perftest")
SHORT = 32 << 20  # memory of both sides, where there is less than they use


@dataclass(frozen=True)
class Program:
    """A perftest program and what it needs of ODP."""

    name: str
    size: int
    odp_needs: tuple[str, ...]  # bits of rc_odp_caps
    buffer: str = "16M"  # of each side
    iterations: int = 512  # the first half or more of them use their pages first
    options: tuple[str, ...] = ()


WRITE_BW = Program("ib_write_bw", 65536, ("SUPPORT_WRITE",))
READ_BW = Program("ib_read_bw", 65536, ("SUPPORT_READ",))
SEND_BW = Program("ib_send_bw", 65536, ("SUPPORT_SEND", "SUPPORT_RECV"))
WRITE_LAT = Program(
    "ib_write_lat", 4096, ("SUPPORT_WRITE",), "1M", 1024,
    ("--write_with_imm", f"--report_percentiles={','.join(PERCENTILES)}"),
)  # fmt: skip


@dataclass(frozen=True)
class Memory:
    """What the two buffers are, and what happens to them."""

    name: str
    options: tuple[str, ...] = ()
    short: bool = False  # of memory

    @property
    def odp(self) -> bool:
        """Whether it is on-demand paging memory."""
        return "--odp" in self.options


ORDINARY = Memory("ordinary")
ODP = ("--odp", "--report_odp")
WARM = Memory("ODP warm", (*ODP, "--odp_prefetch=once"))  # in memory, and the device knows where
COLD = Memory("ODP cold", (*ODP, "--odp_cold"))
PREFETCHED = Memory("ODP cold, prefetch", (*COLD.options, "--odp_prefetch=once"))
CHURN = Memory("ODP churn", (*ODP, "--odp_churn=mprotect:5000"))
# Both buffers together are twice what there is.
SWAPPED = Memory("ODP 2 x memory", COLD.options, short=True)

ROWS = (
    *((WRITE_BW, memory) for memory in (ORDINARY, WARM, COLD, PREFETCHED, CHURN, SWAPPED)),
    *((READ_BW, memory) for memory in (ORDINARY, WARM, COLD, CHURN)),
    *((SEND_BW, memory) for memory in (ORDINARY, WARM, COLD, CHURN)),
    *((WRITE_LAT, memory) for memory in (ORDINARY, WARM, COLD, PREFETCHED)),
)


@dataclass
class Row:
    """One line of the table; None where there is nothing to say."""

    program: str
    memory: str
    size: int
    bandwidth: float | None = None  # MiB/s
    first: list[float | None] | None = None  # us, by PERCENTILES: of pages used first
    warm: list[float | None] | None = None  # of others
    faults: int | None = None
    taken: int | None = None  # pages, by invalidations
    checked: int = 0  # bytes
    wrong: int = 0
    refused: str = ""
    failed: str = ""


def rc_odp_caps() -> set[str]:
    """The operations that the device offers on ODP memory over RC."""
    text = subprocess.run(
        ["ibv_devinfo", "-v", "-d", DEVICE], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    block = re.search(r"rc_odp_caps:\n((?:\t{5}.*\n)+)", text)
    return {word for word in (block[1].split() if block else []) if word.startswith("SUPPORT")}


def wait_for_server(port: int, server: "subprocess.Popen[bytes]") -> bool:
    """Until the server listens on PORT."""
    end = time.monotonic() + SECONDS
    listening = f":{port:04X} 00000000:0000 0A"
    while time.monotonic() < end and server.poll() is None:
        tables = [Path(f"/proc/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6")]
        if listening in tables[0] or re.search(rf":{port:04X} 0{{32}}:0000 0A", tables[1]):
            return True
        time.sleep(0.02)
    return False


def in_group() -> None:
    """Called in the child: it has no more memory than its group."""
    (GROUP / "cgroup.procs").write_text("0", encoding="ascii")


def make_group() -> None:
    """A group that is short of memory, and swap for what it lacks."""
    words = "modprobe zram; echo 512M >$0/disksize; mkswap -q /dev/zram0; swapon /dev/zram0"
    subprocess.run(["sh", "-ec", words, "/sys/block/zram0"], check=True)
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+memory", encoding="ascii")
    GROUP.mkdir()
    (GROUP / "memory.max").write_text(str(SHORT), encoding="ascii")


def read_results(row: Row, memory: Memory, path: Path) -> None:
    """What the client has reported."""
    # perftest prints a number that it could not compute as -nan, which is not JSON.
    text = re.sub(r": -?(?:nan|inf)\b", ": null", path.read_text(encoding="utf-8"))
    report: dict[str, Any] = json.loads(text)
    row.checked = report["data_validation"]["checked_bytes"]
    row.wrong = report["data_validation"]["wrong_bytes"]
    if "percentiles" in report:
        row.first, row.warm = (
            [report["percentiles"][name][each] for each in PERCENTILES]
            for name in ("first_touch", "warm")
        )
    else:
        row.bandwidth = report["results"]["BW_average"]
    if row.bandwidth is None and not any((row.first or []) + (row.warm or [])):
        row.failed = NO_CLOCK
    if memory.odp and report["odp"]["counters"]["source"] == "hw_counters":
        row.faults = report["odp"]["counters"]["faults"]
        row.taken = report["odp"]["counters"]["page_invalidations"]


def run_pair(program: Program, memory: Memory, name: str, port: int, folder: Path) -> Row:
    """One program between two processes."""
    row = Row(program.name, memory.name, program.size)
    buffer, iterations = program.buffer, program.iterations
    if memory.short:
        buffer, iterations = str(SHORT), SHORT // program.size
    words = [
        str(PROGRAMS_FOLDER / program.name),
        *("-d", DEVICE, "-x", GID_INDEX, "-p", str(port), "-s", str(program.size)),
        *("-n", str(iterations), "-F", "--data_validation"),
        f"--buf_size={buffer}", *program.options, *memory.options,
    ]  # fmt: skip
    group: Callable[[], None] | None = in_group if memory.short else None
    report = folder / f"{name}.json"
    with (
        (folder / f"{name}.server").open("wb") as server_out,
        (folder / f"{name}.client").open("wb") as client_out,
    ):
        server = subprocess.Popen(
            words, stdout=server_out, stderr=subprocess.STDOUT, preexec_fn=group
        )
        try:
            if not wait_for_server(port, server):
                row.failed = "the server did not listen"
                return row
            client = subprocess.run(
                [*words, ADDRESS, "--out_json", f"--out_json_file={report}"],
                stdout=client_out, stderr=subprocess.STDOUT, timeout=SECONDS, check=False,
                preexec_fn=group,
            )  # fmt: skip
            # A client that failed may leave its server waiting for another.
            status = 0 if client.returncode else server.wait(SECONDS)
        except subprocess.TimeoutExpired:
            row.failed = f"not finished after {SECONDS} s"
            return row
        finally:
            server.kill()
            server.wait()
    if report.exists():
        read_results(row, memory, report)
    if (client.returncode or status) and not row.wrong:
        row.failed = f"client status {client.returncode}, server status {status}"
    return row


def main() -> None:
    """Run every row."""
    folder = Path(sys.argv[1])
    offered = rc_odp_caps()
    make_group()
    rows = []
    for number, (program, memory) in enumerate(ROWS):
        missing = [need for need in program.odp_needs if need not in offered]
        name = f"{program.name}-{memory.name.replace(',', '').replace(' ', '-')}"
        if memory.odp and missing:
            row = Row(program.name, memory.name, program.size)
            row.refused = f"{DEVICE} does not offer ODP for this: RC lacks {', '.join(missing)}"
        else:
            for _ in range(TRIES):
                row = run_pair(program, memory, name, 18515 + number, folder)
                if row.failed != NO_CLOCK:
                    break
        rows.append(asdict(row))
        (folder / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print(f"{number + 1} of {len(ROWS)}: {name}", flush=True)
    print("finished", flush=True)


if __name__ == "__main__":
    main()
