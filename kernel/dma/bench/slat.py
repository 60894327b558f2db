#!/usr/bin/env python3
"""In the guest: what it costs to submit an I/O to NVMe, prints a line `NAME VALUE UNIT` a sample.

fio reads at random with io_uring, one I/O at a time; its submission latency is the time in
io_uring_enter(). The buffers are made, not found: scattered ones have no two neighbouring
frames, huge ones are one block. What malloc gives differs from run to run, and so would the
number of segments and with it the cost.

A sample is the 10th percentile over the I/Os of a run: what a submission costs that no interrupt
fell into. The device completes some I/Os while they are still being submitted, as the host has
time, and then an interrupt of some 3,000 instructions is in the latency; on a busy host it can be
more than half of them. The mean, which has it all, is told too.

An I/O that the kernel must split is not submitted at all in io_uring_enter() but handed to a
worker (punted); its latency says nothing about DMA. So punts are counted.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RUNS = 3
IOS = 500
PAGE = 4096
SIZES = {"4k": 1, "16k": 4, "64k": 16, "128k": 32, "1m": 256}  # in pages
KINDS = {"plain": tuple(SIZES), "fixed": tuple(SIZES), "fixed_huge": ("4k", "64k", "128k", "1m")}
BUFFERS = Path("/dev/shm/buffers")
TRACING = Path("/sys/kernel/tracing")
PUNT = TRACING / "events/io_uring/io_uring_queue_async_work/enable"

GLOBAL = f"""\
[global]
filename=/dev/nvme0n1
ioengine=io_uring
iodepth=1
direct=1
rw=randread
norandommap=1
size=1G
number_ios={IOS}
"""


def scatter(path: Path, pages: int) -> None:
    """A file in memory whose pages have no neighbours: another file has those."""
    with path.open("wb", 0) as file, path.with_suffix(".gaps").open("wb", 0) as gaps:
        for _ in range(pages):
            file.write(bytes(PAGE))
            gaps.write(bytes(PAGE))


def job(kind: str, size: str) -> str:
    """The section of one measure."""
    name = f"{kind}_{size}"
    if kind == "fixed_huge":
        memory = "mmaphuge:/dev/hugepages/buffer"
    else:
        memory = f"mmapshared:{BUFFERS / name}"
        # fio asks for some more than the size of an I/O
        scatter(BUFFERS / name, SIZES[size] + 4)
    return (
        f"[{name}]\nstonewall\nbs={size}\nfixedbufs={int(kind != 'plain')}\n"
        f"iomem={memory}\nwrite_lat_log={name}\n"
    )


def undisturbed(name: str, number: int) -> int:
    """The latency of job NUMBER's quicker I/Os, from fio's log: time, latency, and more."""
    lines = Path(f"{name}_slat.{number}.log").read_text(encoding="ascii").splitlines()
    latencies = sorted(int(line.split(",")[1]) for line in lines)
    if len(latencies) != IOS:
        sys.exit(f"fio logged {len(latencies)} of {IOS} submissions of {name}")
    return latencies[IOS // 10]


def fio(*options: str) -> list[dict[str, Any]]:
    """The results of the jobs, by default of all."""
    words = ["fio", "--output-format=json", *options, "job.fio"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"fio ended with status {done.returncode}: {done.stdout[-200:]}")
    jobs: list[dict[str, Any]] = json.loads(done.stdout)["jobs"]
    for each in jobs:
        if each["error"] or each["read"]["total_ios"] != IOS:
            sys.exit(f"fio did {each['read']['total_ios']} of {IOS} I/Os of {each['jobname']}")
    return jobs


def punts(name: str) -> float:
    """How many of 100 I/Os went to a worker, seen in a run of its own."""
    (TRACING / "trace").write_text("", encoding="ascii")
    PUNT.write_text("1", encoding="ascii")
    fio(f"--section={name}")
    PUNT.write_text("0", encoding="ascii")
    trace = (TRACING / "trace").read_text(encoding="utf-8")
    return 100 * trace.count("io_uring_queue_async_work:") / IOS


def main() -> None:
    """All jobs, one after the other, several times."""
    BUFFERS.mkdir()
    Path("/proc/sys/vm/nr_hugepages").write_text("8", encoding="ascii")
    names = [f"{kind}_{size}" for kind, sizes in KINDS.items() for size in sizes]
    jobs = "\n".join(job(*name.rsplit("_", 1)) for name in names)
    Path("job.fio").write_text(f"{GLOBAL}\n{jobs}", encoding="ascii")
    for _ in range(RUNS):
        for number, (name, each) in enumerate(zip(names, fio()), 1):
            print(f"nvme.slat_{name} {undisturbed(name, number)} instructions")
            mean = each["read"]["slat_ns"]["mean"]
            print(f"nvme.slat_{name}_mean {mean:.10g} instructions", flush=True)
    for name in ("plain_128k", "plain_1m", "fixed_128k", "fixed_1m", "fixed_huge_1m"):
        print(f"nvme.punts_{name} {punts(name):.10g} percent", flush=True)


if __name__ == "__main__":
    main()
