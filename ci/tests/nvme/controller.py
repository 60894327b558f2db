"""An NVMe controller as the guest sees it, for the tests of its data path.

What the driver decided for a request is read from its tracepoint nvme_dma_map, what it
still holds from the device's DMA pools and the counters of the DMA core.
"""

import ctypes
import fcntl
import mmap
import os
import random
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

os.chdir("/tmp")  # fio leaves files where it runs

PAGE = 4096
TRACING = Path("/sys/kernel/tracing")
EVENT = TRACING / "events/nvme_pci/nvme_dma_map"
THRESHOLD = Path("/sys/module/nvme/parameters/sgl_threshold")
COUNTERS = Path("/sys/kernel/debug/dma_iova/counters")
SWIOTLB = Path("/sys/kernel/debug/swiotlb")
DECIDED = re.compile(
    r"nvme_dma_map: nvme(\d+): qid=(\d+), tag=\d+, bytes=(\d+), segments=(\d+), "
    r"(prp|sgl), lists=(\d+), mapped=(\w+), error=(-?\d+)"
)


def fail(sentence: str) -> None:
    """End the test with a sentence."""
    print(sentence)
    sys.exit(1)


def expect(condition: bool, sentence: str) -> None:
    """End the test with SENTENCE unless CONDITION holds."""
    if not condition:
        fail(sentence)


def wait_until(seconds: float, what: str, condition: Callable[[], bool]) -> None:
    """Until CONDITION holds; ends the test at the deadline."""
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Decision:
    """What the driver decided for one request."""

    ctrl: int
    qid: int
    bytes: int
    segments: int
    kind: str  # prp, sgl
    lists: int
    mapped: str  # one, iova, runs
    error: int


@contextmanager
def decisions() -> Iterator[list[Decision]]:
    """The decisions made inside the block, there when it ends; only those of I/O queues."""
    found: list[Decision] = []
    (TRACING / "trace").write_text("")
    (EVENT / "enable").write_text("1")
    try:
        yield found
    finally:
        (EVENT / "enable").write_text("0")
        for match in DECIDED.finditer((TRACING / "trace").read_text()):
            ctrl, qid, size, segments, kind, lists, mapped, error = match.groups()
            decision = Decision(
                int(ctrl), int(qid), int(size), int(segments), kind, int(lists), mapped, int(error)
            )
            if decision.qid:
                found.append(decision)


def set_sgl_threshold(value: int) -> None:
    """0: PRPs for all that may have them; 1: SGLs."""
    THRESHOLD.write_text(str(value))


class Controller:
    """The controller with a serial number."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        for ctrl in Path("/sys/class/nvme").iterdir():
            if (ctrl / "serial").read_text().strip() == serial:
                self.sys = ctrl
                break
        else:
            fail(f"no controller has the serial number {serial}")
        self.pci = (self.sys / "device").resolve()
        self.number = int(self.sys.name.removeprefix("nvme"))
        self.disk = Path(f"/dev/{self.sys.name}n1")
        self.queue = Path(f"/sys/block/{self.disk.name}/queue")

    def lists_in_use(self) -> int:
        """Descriptor lists that requests hold."""
        lines = (self.pci / "pools").read_text().splitlines()
        return sum(int(line.split()[-4]) for line in lines if line.startswith("prp list"))

    def domain(self) -> str:
        """Type of the IOMMU domain, none without an IOMMU."""
        group = self.pci / "iommu_group/type"
        return group.read_text().strip() if group.exists() else "none"


def counters() -> dict[str, int]:
    """The DMA core's counters."""
    pairs = (line.split() for line in COUNTERS.read_text().splitlines())
    return {name: int(value) for name, value in pairs}


def bounced() -> int:
    """Slots of the bounce buffer in use."""
    return int((SWIOTLB / "io_tlb_used").read_text())


def nothing_left(*controllers: Controller) -> None:
    """Ends the test if a request that is over has left something behind."""

    def held() -> dict[str, int]:
        values = {f"lists of {each.serial}": each.lists_in_use() for each in controllers}
        count = counters()
        values["IOVA ranges"] = count["reserves"] - count["frees"]
        if (SWIOTLB / "io_tlb_used").exists():
            values["bounce slots"] = bounced()
        return {name: value for name, value in values.items() if value}

    end = time.monotonic() + 5
    while held() and time.monotonic() < end:
        time.sleep(0.02)
    expect(not held(), f"left behind: {held()}")


class Memory:
    """Anonymous memory whose pages were touched in random order: not contiguous in RAM."""

    def __init__(self, size: int, seed: int) -> None:
        self.map = mmap.mmap(-1, size)
        self.map.madvise(mmap.MADV_NOHUGEPAGE)
        pages = list(range(0, size, PAGE))
        random.Random(seed).shuffle(pages)
        for page in pages:
            self.map[page] = 1
        self.view = memoryview(self.map)

    def fill(self, seed: int) -> None:
        """Put bytes there that SEED determines."""
        self.view[:] = random.Random(seed).randbytes(len(self.view))

    def torn_pair(self) -> memoryview:
        """Two pages one after the other that are not so in RAM: never one segment."""
        pages = len(self.view) // PAGE
        with open("/proc/self/pagemap", "rb") as pagemap:
            pagemap.seek(address_of(self.view) // PAGE * 8)
            words = struct.unpack(f"{pages}Q", pagemap.read(pages * 8))
        frames = [word & (1 << 55) - 1 for word in words]
        for i, (frame, after) in enumerate(zip(frames, frames[1:])):
            if frame and after and after != frame + 1:
                return self.view[i * PAGE : (i + 2) * PAGE]
        raise SystemExit(f"{pages} pages are contiguous in RAM")


def address_of(view: memoryview) -> int:
    """User address of a writable buffer."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


READ, WRITE = 2, 1
BLKFLSBUF = 0x1261
NVME_IOCTL_IO_CMD = 0xC0484E43
NVME_IOCTL_IO64_CMD_VEC = 0xC0504E49


def pass_through(
    fd: int, opcode: int, block: int, data: memoryview, info: memoryview | None = None
) -> None:
    """A user's own command for the first blocks of the disk, of BLOCK bytes each."""
    metadata, length = (address_of(info), len(info)) if info else (0, 0)
    command = struct.pack(
        "<BBHIIIQQIIIIIIIIII", opcode, 0, 0, 1, 0, 0, metadata, address_of(data), length, len(data),
        0, 0, len(data) // block - 1, 0, 0, 0, 0, 0,
    )
    status = fcntl.ioctl(fd, NVME_IOCTL_IO_CMD, ctypes.create_string_buffer(command, len(command)))
    expect(status == 0, f"passed through: the controller says {status:#x}")


def read_nowhere(fd: int, pieces: list[memoryview]) -> int:
    """A user's own read from far behind the end of the disk; what the controller says."""
    vector = b"".join(struct.pack("<QQ", address_of(piece), len(piece)) for piece in pieces)
    buffer = ctypes.create_string_buffer(vector)
    blocks = sum(len(piece) for piece in pieces) // 512
    command = struct.pack(
        "<BBHIIIQQIIIIIIIIIIQ", READ, 0, 0, 1, 0, 0, 0, ctypes.addressof(buffer), 0, len(pieces),
        0, 1 << 16, blocks - 1, 0, 0, 0, 0, 0, 0,
    )
    mutable = ctypes.create_string_buffer(command, len(command))
    status: int = fcntl.ioctl(fd, NVME_IOCTL_IO64_CMD_VEC, mutable)
    return status


@contextmanager
def direct(disk: Path) -> Iterator[int]:
    """A descriptor of the disk that bypasses the page cache."""
    fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
    try:
        yield fd
    finally:
        os.close(fd)


def drop_cache(disk: Path) -> None:
    """Write back and forget what the page cache has of the disk."""
    with disk.open("rb") as file:
        fcntl.ioctl(file, BLKFLSBUF)


def run(*command: str, status: int = 0, deadline: float = 170) -> str:
    """What COMMAND says; ends the test if its status is another."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=deadline,
        check=False,
    )
    if done.returncode != status:
        lines = [line[:300] for line in done.stdout.splitlines()]
        # fio says what is wrong before its long table.
        some = lines if len(lines) < 20 else [*lines[:10], *lines[-10:]]
        fail("\n".join([*some, f"{' '.join(command)}: status {done.returncode}"]))
    return done.stdout
