#!/usr/bin/env python3
"""Runs in the guest: a namespace with protection information, checked by host and device.

integrity.py SEED BLOCK SHARE: the size of a logical block, and by what the bytes that fio
moves are divided.
"""

import os
import random
import re
import sys
import tempfile
from pathlib import Path

from controller import (
    PAGE,
    READ,
    TRACING,
    WRITE,
    Controller,
    Memory,
    direct,
    drop_cache,
    expect,
    nothing_left,
    pass_through,
    run,
    set_sgl_threshold,
)

SEED = int(sys.argv[1])
BLOCK = int(sys.argv[2])
SHARE = int(sys.argv[3])
NR = 16  # blocks in a command of our own, with 8 bytes of information each
EVENT = TRACING / "events/nvme_pci/nvme_dma_map_metadata"
COMPLETE = TRACING / "events/nvme/nvme_complete_rq"


def fio(disk: Path, kind: str) -> None:
    """Verified I/O of all sizes, also of requests that several bios were merged into."""
    common = ["fio", "--minimal", f"--filename={disk}", "--thread", "--verify=crc32c"]
    common += ["--verify_fatal=1", f"--randseed={SEED}", "--verify_state_save=0"]
    odd = 28 * 1024 - BLOCK if BLOCK < PAGE else 28 * 1024
    for size in ("4k", "16k", "64k", "1m", str(odd)):
        job = ["--ioengine=io_uring", "--direct=1", "--iodepth=8", f"--bs={size}"]
        run(*common, f"--name={kind}-{size}", "--rw=randwrite", *job, f"--size={4 // SHARE}m")
    job = ["--ioengine=psync", "--bs=4k", f"--size={8 // SHARE}m", "--end_fsync=1", "--do_verify=0"]
    run(*common, f"--name={kind}-cached", "--rw=write", *job)
    drop_cache(disk)
    run(*common, f"--name={kind}-cached", "--rw=write", *job[:-1], "--verify_only=1")


def none_refused() -> None:
    """The driver tries again what the controller refuses, and then the tags may be right."""
    refused = [line for line in (TRACING / "trace").open() if " nvme_complete_rq: " in line]
    expect(not refused, f"{len(refused)} commands were refused, the first: {refused[:1]}")


def passed_through(disk: Path, folder: Path, rng: random.Random) -> None:
    """A user's own commands, data and protection information side by side."""
    data, back, info, more = (folder / name for name in ("data", "back", "info", "more"))
    common = ["--start-block=64", f"--block-count={NR - 1}"]
    common += [f"--data-size={NR * BLOCK}", f"--metadata-size={NR * 8}"]
    data.write_bytes(rng.randbytes(NR * BLOCK))
    info.write_bytes(rng.randbytes(NR * 8))
    run("nvme", "write", str(disk), *common, f"--data={data}", f"--metadata={info}")
    run("nvme", "read", str(disk), *common, f"--data={back}", f"--metadata={more}")
    expect(back.read_bytes() == data.read_bytes(), "passed through: other data comes back")
    expect(more.read_bytes() == info.read_bytes(), "passed through: other information comes back")


def scattered(disk: Path, rng: random.Random) -> None:
    """The same with information that lies on two pages: only then it has two segments."""
    nr = 252 * 1024 // BLOCK
    data, info = Memory(252 * 1024, SEED), Memory(32 * PAGE, SEED + 1).torn_pair()
    cut = PAGE - nr * 4
    mine = info[cut : cut + nr * 8]
    for view in (data.view, mine):
        view[:] = rng.randbytes(len(view))
    written = bytes(data.view), bytes(mine)
    with direct(disk) as fd:
        pass_through(fd, WRITE, BLOCK, data.view, mine)
        for view in (data.view, info):
            view[:] = bytes(len(view))
        pass_through(fd, READ, BLOCK, data.view, mine)
    expect(written == (bytes(data.view), bytes(mine)), "scattered: other bytes come back")
    outside = bytes(info[:cut]) + bytes(info[cut + nr * 8 :])
    expect(not any(outside), "scattered: bytes around the information were written")


def planted(disk: Path, rng: random.Random) -> None:
    """What was just written has wrong protection information, and must not be read as good."""
    data = Memory(2 * NR * BLOCK, SEED)
    with direct(disk) as fd:
        try:
            os.preadv(fd, [data.view[: NR * BLOCK]], 64 * BLOCK)
            expect(False, "wrong protection information was not noticed")
        except OSError:
            pass
        written = rng.randbytes(2 * NR * BLOCK)
        data.view[:] = written
        os.pwritev(fd, [data.view], 64 * BLOCK)
        os.preadv(fd, [data.view], 64 * BLOCK)
        expect(data.view == written, "other bytes come back")


def most_segments() -> int:
    """The most integrity segments that a request had since the event was switched on."""
    trace = (TRACING / "trace").read_text()
    found = re.findall(r"nvme_dma_map_metadata: .* segments=(\d+), \w+, error=0", trace)
    return max(map(int, found), default=0)


def main() -> None:
    """With PRPs, then with SGLs, or with one of them."""
    rng = random.Random(SEED)
    EVENT.joinpath("enable").write_text("1")
    COMPLETE.joinpath("filter").write_text("status != 0")
    controller = Controller("integrity")
    folder = Path(f"/sys/block/{controller.disk.name}/integrity")
    profile = (folder / "format").read_text().strip()
    expect(profile == "T10-DIF-TYPE1-CRC", f"the integrity profile is {profile}")
    segments = int((controller.queue / "max_integrity_segments").read_text())
    kinds = [("prp", 0), ("sgl", 1)]
    for kind, threshold in kinds if SHARE == 1 else [rng.choice(kinds)]:
        print(f"with {kind}", flush=True)
        set_sgl_threshold(threshold)
        COMPLETE.joinpath("enable").write_text("1")
        fio(controller.disk, kind)
        none_refused()
        COMPLETE.joinpath("enable").write_text("0")
        with tempfile.TemporaryDirectory() as files:
            passed_through(controller.disk, Path(files), rng)
        scattered(controller.disk, rng)
        planted(controller.disk, rng)
    nothing_left(controller)
    most = most_segments()
    expect(1 < most <= segments, f"at most {most} of {segments} integrity segments were seen")
    print(f"up to {most} of {segments} integrity segments, nothing left behind")


main()
