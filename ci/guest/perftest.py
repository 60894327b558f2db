#!/usr/bin/env python3
"""Runs in the guest: perftest between two processes over rxe0, row by row.

    perftest.py FOLDER

Writes rows.json into FOLDER, with the raw output of every program beside it
as NAME.server, NAME.client, NAME.json and NAME.data. Which ODP rows can run is
decided by what the device says of itself, never by the kernel's name.
"""

import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

DEVICE = "rxe0"
ADDRESS = "10.7.7.1"
GID_INDEX = "1"
SIZE = 65536
SECONDS = 60  # deadline of one program
# perftest compares two clocks when it starts, and has no figures if something came between.
NO_CLOCK = "perftest could not calibrate its clock, the machine is too busy"
TRIES = 3


@dataclass(frozen=True)
class Program:
    """A perftest program and what it needs of ODP."""

    name: str
    operation: str  # of rdma-data
    iterations: int
    size: int
    odp_needs: tuple[str, ...]  # bits of rc_odp_caps


PROGRAMS = (
    Program("ib_write_bw", "write", 1000, SIZE, ("SUPPORT_WRITE",)),
    Program("ib_read_bw", "read", 1000, SIZE, ("SUPPORT_READ",)),
    Program("ib_send_bw", "send", 1000, SIZE, ("SUPPORT_SEND", "SUPPORT_RECV")),
    Program("ib_write_lat", "write", 1000, 8, ("SUPPORT_WRITE",)),
)


@dataclass
class Row:
    """One line of the table; None where there is nothing to say."""

    program: str
    memory: str
    size: int
    bandwidth: float | None = None  # MiB/s
    latency: float | None = None  # us, typical
    faults: str = "-"
    data: str = "-"
    refused: str = ""
    failed: str = ""


def rc_odp_caps() -> set[str]:
    """The operations that the device offers on ODP memory over RC."""
    text = subprocess.run(
        ["ibv_devinfo", "-v", "-d", DEVICE], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    block = re.search(r"rc_odp_caps:\n((?:\t{5}.*\n)+)", text)
    return {word for word in (block[1].split() if block else []) if word.startswith("SUPPORT")}


def fault_counters() -> int | None:
    """Page faults the device has counted so far; None if it has no such counter."""
    values = [
        int(path.read_text(encoding="ascii"))
        for pattern in ("hw_counters/*page_fault*", "ports/1/hw_counters/*page_fault*")
        for path in Path(f"/sys/class/infiniband/{DEVICE}").glob(pattern)
    ]
    return sum(values) if values else None


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


def run_pair(program: Program, odp: bool, name: str, port: int, folder: Path) -> Row:
    """One program between two processes."""
    row = Row(program.name, "ODP" if odp else "ordinary", program.size)
    words = [program.name, "-d", DEVICE, "-x", GID_INDEX, "-p", str(port), "-s", str(program.size),
             "-n", str(program.iterations), "-F"] + (["--odp"] if odp else [])
    before = fault_counters()
    with (
        (folder / f"{name}.server").open("wb") as server_out,
        (folder / f"{name}.client").open("wb") as client_out,
    ):
        server = subprocess.Popen(words, stdout=server_out, stderr=subprocess.STDOUT)
        try:
            if not wait_for_server(port, server):
                row.failed = "the server did not listen"
                return row
            client = subprocess.run(
                [*words, ADDRESS, "--out_json", f"--out_json_file={folder}/{name}.json"],
                stdout=client_out, stderr=subprocess.STDOUT, timeout=SECONDS, check=False,
            )
            # A client that failed leaves its server waiting for another.
            status = 0 if client.returncode else server.wait(SECONDS)
        except subprocess.TimeoutExpired:
            row.failed = f"not finished after {SECONDS} s"
            return row
        finally:
            server.kill()
    if client.returncode or status:
        row.failed = f"client status {client.returncode}, server status {status}"
        return row
    after = fault_counters()
    if odp:
        row.faults = "no counter" if before is None or after is None else str(after - before)
    text = (folder / f"{name}.json").read_text(encoding="utf-8")
    # perftest prints a number that it could not compute as -nan, which is not JSON.
    results = json.loads(re.sub(r": -?(?:nan|inf)\b", ": null", text))["results"]
    value = results.get("BW_average", results.get("t_typical"))
    if value is None:
        row.failed = NO_CLOCK
    elif "BW_average" in results:
        row.bandwidth = float(value)
    else:
        row.latency = float(value)
    return row


def check_data(program: Program, odp: bool, name: str, folder: Path) -> str:
    """What rdma-data says of the bytes that this operation moves."""
    words = ["rdma-data", "-d", DEVICE, "-x", GID_INDEX, "-o", program.operation]
    words += ["-O"] if odp else []
    words = ["timeout", str(SECONDS), *words]
    result = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    (folder / f"{name}.data").write_text(result.stdout, encoding="utf-8")
    return result.stdout.strip() or f"rdma-data ended with status {result.returncode}"


def main() -> None:
    """Run every row."""
    folder = Path(sys.argv[1])
    offered = rc_odp_caps()
    rows = []
    checked: dict[tuple[str, bool], str] = {}
    for number, (program, odp) in enumerate((p, o) for p in PROGRAMS for o in (False, True)):
        missing = [need for need in program.odp_needs if need not in offered]
        name = f"{program.name}-{'odp' if odp else 'ordinary'}"
        if odp and missing:
            row = Row(program.name, "ODP", program.size)
            row.refused = f"{DEVICE} does not offer ODP for this: RC lacks {', '.join(missing)}"
        else:
            for _ in range(TRIES):
                row = run_pair(program, odp, name, 18515 + number, folder)
                if row.failed != NO_CLOCK:
                    break
            kind = (program.operation, odp)
            if kind not in checked:
                checked[kind] = check_data(program, odp, name, folder)
            row.data = checked[kind]
        rows.append(asdict(row))
        (folder / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print(f"{number + 1} {name}", flush=True)


if __name__ == "__main__":
    main()
