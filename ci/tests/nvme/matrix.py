#!/usr/bin/env python3
"""Runs in the guest: every way to reach an NVMe disk, every size, PRPs and SGLs, verified.

matrix.py KIND SEED SHARE: what is between the controller and memory, and by what the bytes
that fio moves are divided; but for 1, with PRPs or SGLs as the seed says.
"""

import mmap
import os
import random
import sys
import tempfile
from pathlib import Path

from controller import (
    PAGE,
    READ,
    SWIOTLB,
    Controller,
    Decision,
    Memory,
    counters,
    decisions,
    direct,
    drop_cache,
    expect,
    nothing_left,
    pass_through,
    run,
    set_sgl_threshold,
)

KIND = sys.argv[1]
SEED = int(sys.argv[2])
SHARE = int(sys.argv[3])
DOMAINS = {"intel-strict": "DMA", "intel-lazy": "DMA-FQ", "virtio-iommu": "DMA", "untrusted": "DMA"}
DOMAIN = DOMAINS.get(KIND, "none")
BOUNCES = KIND in ("swiotlb", "untrusted")
BEHIND_IOMMU = DOMAIN != "none"
ODD = 27 * 1024 + 512
SIZES = {4096: 512, 16384: 1024, 65536: 2048, 1 << 20: 4096, ODD: 1024}  # bytes to KiB of fio
WAYS = {  # to fio's options, and where in its region a job begins
    "plain": ("ioengine=io_uring direct=1", 0),
    "registered": ("ioengine=io_uring fixedbufs=1 registerfiles=1 direct=1", 0),
    "misaligned": ("ioengine=io_uring direct=1 iomem_align=512", 512),
}
THRESHOLDS = {"prp": 0, "sgl": 1}
STEPS = ("write", "read", "randrw")

BUFFERS = Path("/dev/shm/fio")


def depth(size: int) -> int:
    """Requests of SIZE bytes that a job has under way."""
    return max(4, min(8, (1 << 20) // size))


def scatter_buffers() -> None:
    """The memory that fio moves data to and from: another file has each page's neighbour."""
    BUFFERS.mkdir()
    with (BUFFERS / "gaps").open("wb", 0) as gaps:
        for way in WAYS:
            for size in SIZES:
                with (BUFFERS / f"{way}-{size}").open("wb", 0) as file:
                    for _ in range(0, size * depth(size) + 2 * PAGE, PAGE):
                        file.write(bytes(PAGE))
                        gaps.write(bytes(PAGE))


def jobs(disk: Path, seed: int) -> str:
    """fio's job file: all ways and sizes side by side write and verify, read verifying, mix."""
    lines = [
        "[global]", f"filename={disk}", "thread=1", "verify=crc32c", "verify_fatal=1",
        f"randseed={seed}", "verify_state_save=0",
    ]
    for name in STEPS:
        at, stonewall = 0, "stonewall"
        for way, (options, start) in WAYS.items():
            for size, amount in SIZES.items():
                # Whole blocks: fio begins the last one even where the next job's region is.
                amount = max(amount * 1024 // SHARE // size, 2) * size
                # fio may remove the file of its memory when the job ends.
                memory = BUFFERS / f"{way}-{size}-{name}"
                memory.unlink(missing_ok=True)
                os.link(BUFFERS / f"{way}-{size}", memory)
                lines += [f"[{way}-{size}-{name}]", stonewall, f"rw={name}", f"bs={size}"]
                lines += [f"offset={at + start}", f"size={amount}", f"iodepth={depth(size)}"]
                lines += [f"iomem=mmapshared:{memory}", *options.split()]
                at, stonewall = at + -(-amount // PAGE) * PAGE + PAGE, ""
    return "\n".join(lines) + "\n"


def fio(disk: Path, seed: int) -> None:
    """All jobs, in one process."""
    links = counters()["links"]
    with tempfile.NamedTemporaryFile("w", suffix=".fio") as file:
        file.write(jobs(disk, seed))
        file.flush()
        said = run("fio", "--minimal", file.name)
    number = len(WAYS) * len(SIZES) * len(STEPS)
    ended = [line for line in said.splitlines() if line.startswith("3;fio")]
    expect(len(ended) == number, f"{len(ended)} jobs ended instead of {number}: {said[-1000:]}")
    bad = [line for line in ended if line.split(";")[4] != "0"]
    expect(not bad, f"jobs with errors: {bad[:3]}")
    links = counters()["links"] - links
    expect(links > 1000 // SHARE or not BEHIND_IOMMU, f"fio's memory is contiguous: {links} links")


def planted(disk: Path, seed: int) -> None:
    """fio must find one wrong byte, or it verifies nothing."""
    job = ["fio", "--minimal", "--name=v", f"--filename={disk}", "--direct=1", "--bs=16k"]
    job += ["--size=1m", "--rw=write", "--verify=crc32c", f"--randseed={seed}"]
    run(*job)
    with direct(disk) as fd, mmap.mmap(-1, PAGE) as page:
        os.preadv(fd, [page], 8 * PAGE)
        page[77] ^= 0xFF
        os.pwritev(fd, [page], 8 * PAGE)
    run(*job, "--verify_only=1", status=1)


def dd(disk: Path, rng: random.Random) -> None:
    """dd with and without the page cache, compared byte by byte."""
    flags = [("direct", "direct"), ("direct", "nonblock"), ("sync", "direct")]
    with tempfile.TemporaryDirectory() as folder:
        data, back = Path(folder, "data"), Path(folder, "back")
        for size in SIZES:
            count = max(1, (1 << 20) // (size * SHARE))
            data.write_bytes(rng.randbytes(size * count))
            for out, into in flags if SHARE == 1 else [rng.choice(flags)]:
                common = [f"bs={size}", f"count={count}", "status=none"]
                run("dd", f"if={data}", f"of={disk}", f"oflag={out}", "conv=notrunc", *common)
                drop_cache(disk)
                run("dd", f"if={disk}", f"of={back}", f"iflag={into}", *common)
                same = data.read_bytes() == back.read_bytes()
                expect(same, f"dd {out} {into} {size}: other bytes come back")


def mapped(disk: Path, rng: random.Random) -> None:
    """Written through a mapping and read back directly, and the other way round."""
    with (
        open(disk, "r+b") as file,
        mmap.mmap(file.fileno(), 4 << 20) as there,
        direct(disk) as fd,
    ):
        for size in SIZES:
            memory = Memory(-(-size // PAGE) * PAGE, SEED)
            at = rng.randrange(0, (4 << 20) - size, 512)
            data = rng.randbytes(size)
            there[at : at + size] = data
            there.flush()
            os.preadv(fd, [memory.view[:size]], at)
            expect(memory.view[:size] == data, f"{size} bytes at {at}: written through a mapping")
            memory.view[:size] = rng.randbytes(size)
            os.pwritev(fd, [memory.view[:size]], at)
            drop_cache(disk)
            same = memory.view[:size] == there[at : at + size]
            expect(same, f"{size} bytes at {at}: read through a mapping")


def odd_vector(fd: int, memory: Memory, rng: random.Random) -> None:
    """One write and read of a buffer at any multiple of 4 bytes, in two pieces."""
    half = len(memory.view) // 2
    # dma-debug takes two pieces that begin in one cache line for an overlap.
    grain = 4 if SHARE == 1 else 64
    start = rng.choice([512, grain, 2048, PAGE - grain, rng.randrange(0, half, grain)])
    length, at = rng.randrange(512, half, 512), rng.randrange(0, 1 << 20, 512)
    cut, data = rng.randrange(0, length, 512), rng.randbytes(length)
    whole = memory.view[start : start + length]
    behind = memory.view[start + length : start + length + 64]
    whole[:] = data
    pieces = [piece for piece in (whole[:cut], whole[cut:]) if piece]
    expect(os.pwritev(fd, pieces, at) == length, "short write")
    whole[:] = bytes(length)
    behind[:] = border = rng.randbytes(len(behind))
    expect(os.preadv(fd, pieces, at) == length, "short read")
    what = f"{length} bytes at {at} to offset {start}, cut at {cut}"
    expect(whole == data, f"{what}: other bytes come back")
    expect(behind == border, f"{what}: bytes behind were written")


def odd_vectors(disk: Path, rng: random.Random) -> None:
    """Buffers that no page begins with, at any sector of the disk."""
    memory = Memory(512 * 1024, SEED)
    with direct(disk) as fd:
        for _ in range(20):
            odd_vector(fd, memory, rng)


def decided(disk: Path, size: int, memory: Memory) -> list[Decision]:
    """What the driver decides for SIZE bytes of scattered pages."""
    with direct(disk) as fd, decisions() as found:
        os.pwritev(fd, [memory.view[:size]], 0)
        os.preadv(fd, [memory.view[:size]], 0)
    return found


def lists_for(kind: str, entries: int) -> int:
    """Lists that hold so many entries, each but the last pointing to the next."""
    room = {"prp": 512, "sgl": 256}[kind]
    return 1 if entries <= room else -(-(entries - 1) // (room - 1))


def wanted(each: Decision, kind: str) -> tuple[str, str, int]:
    """kind, mapped, lists: what must be decided for a request of whole pages."""
    pages = each.bytes // PAGE
    mapped = "one" if each.segments == 1 else "iova" if BEHIND_IOMMU else "runs"
    if pages <= 2 and mapped != "runs":
        return "prp", mapped, 0
    if kind == "sgl" and (mapped != "runs" or each.segments <= 256):
        return "sgl", mapped, 1 if mapped == "runs" else 0
    return "prp", mapped, lists_for("prp", pages - 1) if pages > 2 else 0


def mechanism(controller: Controller, kind: str) -> None:
    """The cheapest way is taken for each size, and no clamp of the one-shot path is left."""
    limit = int((controller.queue / "max_hw_sectors_kb").read_text())
    rule = 252 if BOUNCES else 2048
    expect(limit == rule, f"max_hw_sectors_kb is {limit} instead of {rule}")
    (controller.queue / "max_sectors_kb").write_text(str(limit))
    memory = Memory(2 << 20, SEED)
    for size in (PAGE, 2 * PAGE, 16384, 65536, 192 * 1024, 1 << 20, 2 << 20):
        if size > limit * 1024:
            break
        found = decided(controller.disk, size, memory)
        expect([each.bytes for each in found] == [size] * 2, f"{size} bytes became {found}")
        for each in found:
            scattered = each.segments > 0.9 * size / PAGE or size <= 4 * PAGE
            expect(scattered, f"pages are not scattered: {each}")
            said, right = (each.kind, each.mapped, each.lists), wanted(each, kind)
            expect(each.error == 0 and said == right, f"not {right}: {each}")


def passed_two_pages(controller: Controller) -> None:
    """Two pages would fit into PRPs, but only an SGL stops a command that moves more."""
    memory = Memory(2 * PAGE, SEED)
    with direct(controller.disk) as fd, decisions() as found:
        pass_through(fd, READ, 512, memory.view)
    kinds = [each.kind for each in found if each.bytes == 2 * PAGE]
    expect(kinds == ["sgl"], f"two pages passed through: {found}")


def passed_through(controller: Controller) -> None:
    """A user's own command over scattered pages takes SGLs, in several lists if it must."""
    size = (252 if BOUNCES else 1536) * 1024
    memory, back = Memory(size, SEED), Memory(size, SEED + 1)
    memory.fill(SEED)
    with direct(controller.disk) as fd:
        os.pwritev(fd, [memory.view], 0)
        with decisions() as found:
            pass_through(fd, READ, 512, back.view)
    expect(back.view == memory.view, "passed through: other bytes come back")
    passed_two_pages(controller)
    ours = [each for each in found if each.bytes == size]
    expect(len(ours) == 1, f"passed through: {found}")
    lists = 0 if BEHIND_IOMMU else lists_for("sgl", ours[0].segments)
    expect((ours[0].kind, ours[0].lists) == ("sgl", lists), f"passed through: {ours[0]}")


def main() -> None:
    """All of it with PRPs, then with SGLs, or with one of them."""
    controller = Controller("matrix")
    rng = random.Random(SEED)
    expect(controller.domain() == DOMAIN, f"the IOMMU domain is {controller.domain()}")
    if BOUNCES:
        (SWIOTLB / "io_tlb_used_hiwater").write_text("0")
    scatter_buffers()
    nothing_left(controller)
    before = counters()
    kinds = THRESHOLDS if SHARE == 1 else dict([rng.choice(list(THRESHOLDS.items()))])
    for kind, threshold in kinds.items():
        print(f"with {kind}", flush=True)
        set_sgl_threshold(threshold)
        mechanism(controller, kind)
        passed_through(controller)
        fio(controller.disk, SEED)
        odd_vectors(controller.disk, rng)
        mapped(controller.disk, rng)
        dd(controller.disk, rng)
    if SHARE == 1:
        planted(controller.disk, SEED)
    nothing_left(controller)
    links = counters()["links"] - before["links"]
    expect(bool(links) == BEHIND_IOMMU, f"{links} links behind {KIND}")
    if BOUNCES:
        high = int((SWIOTLB / "io_tlb_used_hiwater").read_text())
        expect(high > 0, "nothing was bounced")
    print(f"{KIND}: {links} links, nothing left behind")


main()
