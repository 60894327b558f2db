#!/usr/bin/env python3
"""Runs in the guest: a controller that is reset, pulled or late while it moves data.

trouble.py KIND[,KIND...] SEED: reset, unplug, timeout; lists, links, syncs, full: a step fails;
flip: what decides between PRPs and SGLs changes all the time.
"""

import contextlib
import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from controller import (
    Controller,
    Memory,
    counters,
    decisions,
    direct,
    expect,
    fail,
    nothing_left,
    run,
    set_sgl_threshold,
    wait_until,
)

KINDS_ASKED = sys.argv[1].split(",")
SEED = int(sys.argv[2])
SERIAL = "trouble"
DEBUG = Path("/sys/kernel/debug")
FIO = (
    "fio --minimal --name=v --direct=1 --ioengine=io_uring --iodepth=16 --rw=randrw "
    "--bsrange=4k-512k --blockalign=4k --verify=crc32c --verify_fatal=1 --thread "
    f"--verify_state_save=0 --randseed={SEED} --size=48m"
).split()


def load(disk: Path, *options: str) -> "subprocess.Popen[str]":
    """fio with verification, running."""
    command = [*FIO, f"--filename={disk}", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(fio: "subprocess.Popen[str]", good: bool) -> None:
    """fio ended, and as it should."""
    said = fio.communicate(timeout=100)[0]
    expect((fio.returncode == 0) == good, f"fio ended with {fio.returncode}: {said[-1500:]}")


def completed(controller: Controller) -> int:
    """Requests that the disk has completed."""
    stat = (controller.queue.parent / "stat").read_text().split()
    return int(stat[0]) + int(stat[4])


def moving(controller: Controller, fio: "subprocess.Popen[str]") -> None:
    """fio's requests are on their way: it keeps the queue full, and some have come back."""
    end, before = time.monotonic() + 60, completed(controller)
    while completed(controller) < before + 50:
        expect(fio.poll() is None, "fio ended before its I/O was seen")
        expect(time.monotonic() < end, "no I/O was seen")
        time.sleep(0.01)


def ranges() -> int:
    """IOVA ranges that are held."""
    count = counters()
    return count["reserves"] - count["frees"]


def kernel_said(text: str) -> int:
    """How often the kernel's log says TEXT."""
    return run("dmesg").count(text)


def state(controller: Controller) -> str:
    """live, resetting, ..."""
    return (controller.sys / "state").read_text().strip()


def reset(controller: Controller) -> None:
    """Requests survive resets: they are unmapped, and mapped again."""
    done = 0
    for _ in range(3):
        fio = load(controller.disk)
        moving(controller, fio)
        for _ in range(4):
            # The write returns when the controller was reset, and fails if it was not.
            (controller.sys / "reset_controller").write_text("1")
            expect(state(controller) == "live", f"{state(controller)} after a reset")
            done += fio.poll() is None
        ended(fio, True)
    expect(done > 3, f"only {done} resets during I/O")
    print(f"{done} resets during I/O")


def unplug(controller: Controller) -> None:
    """A controller that goes takes nothing along, and comes back."""
    for _ in range(3):
        fio = load(controller.disk, "--time_based", "--runtime=60")
        moving(controller, fio)
        (controller.pci / "remove").write_text("1")
        ended(fio, False)
        wait_until(10, "no IOVA range is held", lambda: ranges() == 0)
        Path("/sys/bus/pci/rescan").write_text("1")
        wait_until(20, "the disk is back", controller.disk.exists)
        controller = Controller(SERIAL)
        expect(controller.lists_in_use() == 0, "lists in use after a rescan")
    ended(load(controller.disk, "--size=16m"), True)


def timeout(controller: Controller) -> None:
    """The disk is throttled: commands are late, aborted, and tried again."""
    (controller.queue / "io_timeout").write_text("4000")
    size, number, done = 256 * 1024, 24, set[int]()
    memory = [Memory(size, SEED + i) for i in range(number)]

    def write(fd: int, index: int) -> None:
        try:
            if os.pwritev(fd, [memory[index].view], index * size) == size:
                done.add(index)
        except OSError:
            pass

    with direct(controller.disk) as fd:
        threads = [threading.Thread(target=write, args=(fd, index)) for index in range(number)]
        for index, each in enumerate(memory):
            each.fill(SEED + index)
        for thread in threads:
            thread.start()
        wait_until(240, "a command is late", lambda: kernel_said("timeout, aborting") > 0)
        (controller.queue / "io_timeout").write_text("60000")
        for thread in threads:
            thread.join(100)
            expect(not thread.is_alive(), "a write hangs")
        wait_until(30, "live", lambda: state(controller) == "live")
        expect(len(done) > 0, "no write came through")
        for index in sorted(done):
            back = Memory(size, 0).view
            os.preadv(fd, [back], index * size)
            expect(back == memory[index].view, f"write {index} said it was done, and was not")
    late = kernel_said("timeout, aborting")
    print(f"{late} commands were late, {len(done)} of {number} writes came through")


@contextlib.contextmanager
def injected(folder: Path, probability: int) -> Iterator[None]:
    """A step fails now and then."""
    settings = {"probability": probability, "interval": 1, "times": -1, "verbose": 0}
    for name, value in settings.items():
        (folder / name).write_text(str(value))
    yield
    (folder / "probability").write_text("0")


def failing(controller: Controller, folder: Path, probability: int, *options: str) -> None:
    """Requests whose step failed are tried again, and arrive."""
    with decisions() as found, injected(folder, probability):
        for threshold in (0, 1):
            set_sgl_threshold(threshold)
            ended(load(controller.disk, "--size=16m", *options), True)
    failed = sum(each.error != 0 for each in found)
    expect(failed > 10, f"only {failed} of {len(found)} requests failed")
    print(f"{failed} of {len(found)} requests seen failed")


def lists(controller: Controller) -> None:
    """No memory for a list."""
    (DEBUG / "fail_function/inject").write_text("nvme_dma_alloc_list")
    folder = DEBUG / "fail_function/nvme_dma_alloc_list"
    (folder / "retval").write_text("0")
    failing(controller, DEBUG / "fail_function", 30)


def links(controller: Controller) -> None:
    """Reserving, a page table or a run fails; without a range runs are mapped one by one."""
    folder = DEBUG / "fail_dma_iova"
    (folder / "seams").write_text("0x2f")  # not that of syncing: that is an I/O error
    # A request of n runs passes with 0.9^n: one of 32 scattered pages takes some thirty tries,
    # one of 128 would take a million.
    failing(controller, folder, 10, "--bsrange=4k-128k")


def syncs(controller: Controller) -> None:
    """New entries cannot be made visible: an I/O error for who asked, and for nobody else."""
    folder = DEBUG / "fail_dma_iova"
    (folder / "seams").write_text("0x10")
    size, number, done, refused = 128 * 1024, 200, set[int](), set[int]()
    memory = Memory(size, SEED)
    with direct(controller.disk) as fd:
        for threshold in (0, 1):
            set_sgl_threshold(threshold)
            with injected(folder, 30):
                for index in range(threshold, number, 2):
                    memory.fill(SEED + index)
                    try:
                        written = os.pwritev(fd, [memory.view], index * size)
                        expect(written == size, f"{written} bytes of {size} were written")
                        done.add(index)
                    except OSError as error:
                        expect(error.errno == errno.EIO, f"a write ended with {error}")
                        refused.add(index)
        for index in sorted(done):
            memory.fill(SEED + index)
            back = Memory(size, 0).view
            os.preadv(fd, [back], index * size)
            expect(back == memory.view, f"write {index} said it was done, and was not")
    expect(min(len(done), len(refused)) > 10, f"{len(done)} writes done, {len(refused)} refused")
    print(f"{len(done)} writes came through, {len(refused)} ended with an I/O error")


def full(controller: Controller) -> None:
    """Bounce buffers run out between the runs of a request."""
    with decisions() as found:
        for threshold in (0, 1):
            set_sgl_threshold(threshold)
            ended(load(controller.disk, "--bs=128k", "--size=16m", "--iodepth=64"), True)
    failed = sum(each.error != 0 for each in found)
    expect(failed > 10, f"only {failed} of {len(found)} requests failed")
    print(f"{failed} of {len(found)} requests seen found no bounce buffer")


def flip(controller: Controller) -> None:
    """A request is described in one way, whatever happens to the threshold meanwhile."""
    fio = load(controller.disk, "--size=24m")
    flips = 0
    with decisions() as found:
        while fio.poll() is None:
            set_sgl_threshold(flips % 2)
            flips += 1
    ended(fio, True)
    kinds = {each.kind for each in found}
    expect(kinds == {"prp", "sgl"}, f"after {flips} flips only {kinds} were seen")
    print(f"{flips} flips")


KINDS = {
    "reset": reset,
    "unplug": unplug,
    "timeout": timeout,
    "lists": lists,
    "links": links,
    "syncs": syncs,
    "full": full,
    "flip": flip,
}


def main() -> None:
    """The trouble, then what is left of it."""
    random.seed(SEED)
    # Memory of single pages: a huge one is a single run, mapped without a step that could fail.
    Path("/sys/kernel/mm/transparent_hugepage/enabled").write_text("never")
    controller = Controller(SERIAL)
    before = time.monotonic()
    for kind in KINDS_ASKED:
        if kind not in KINDS:
            fail(f"unknown trouble {kind}")
        KINDS[kind](controller)
        nothing_left(Controller(SERIAL))
    # The debug kernel's DMA API names what a driver that goes has not unmapped.
    (Controller(SERIAL).pci / "remove").write_text("1")
    print(f"{sys.argv[1]}: nothing left behind after {time.monotonic() - before:.0f} s")


main()
