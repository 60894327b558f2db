#!/usr/bin/env python3
"""Runs in the guest: I/O to a peer's memory, the controller memory buffer of another.

peer.py KIND SEED: bus (below a common switch), bridge (through the host bridge), refused
(the host bridge is not known to pass it on) or chosen (below a common switch and behind an
IOMMU: what is decided; QEMU's switch does not turn requests, so the controller is asked for
sectors that it does not have, and moves nothing).
"""

import errno
import mmap
import os
import random
import sys

from controller import (
    PAGE,
    Controller,
    Decision,
    Memory,
    decisions,
    direct,
    expect,
    nothing_left,
    read_nowhere,
    set_sgl_threshold,
)

KIND = sys.argv[1]
SEED = int(sys.argv[2])
SIZE = 256 * 1024
LBA_OUT_OF_RANGE = 0x80
provider = Controller("provider")
client = Controller("client")


def peer_memory(size: int) -> memoryview:
    """Memory of the provider."""
    with open(provider.pci / "p2pmem/allocate", "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), size))


def vectors(peer: memoryview, own: memoryview) -> dict[str, list[memoryview]]:
    """Ways to lay a request out over both memories; each its first and last byte aligned."""
    return {
        "page": [peer[:PAGE]],
        "whole": [peer[:SIZE]],
        "misaligned": [peer[512 : SIZE - PAGE]],
        "own first": [own[: 2 * PAGE], peer[:PAGE], own[4 * PAGE : 7 * PAGE]],
        "peer first": [peer[: 2 * PAGE], own[:PAGE], peer[4 * PAGE : 5 * PAGE]],
        "own last": [peer[: 16 * PAGE], own[: 16 * PAGE]],
    }


def mixed(name: str) -> bool:
    """Whether a way has both memories in one request."""
    return "first" in name or "last" in name


def mapped(name: str) -> str:
    """What must be decided for a way, seen from the client."""
    return "iova" if mixed(name) and KIND == "bridge" else "runs"


def check(found: list[Decision], name: str) -> None:
    """The client's decisions are as they have to be."""
    ours = [each for each in found if each.ctrl == client.number]
    expect(bool(ours), f"{name}: no decision of the client was seen")
    for each in ours:
        expect(each.error == 0 and each.mapped == mapped(name), f"{name}: {each}")


def copied(rng: random.Random, pieces: list[memoryview], name: str) -> None:
    """From the client's disk to the provider's memory, on to its disk, and back."""
    size = sum(len(piece) for piece in pieces)
    data, plain = rng.randbytes(size), Memory(-(-size // PAGE) * PAGE, SEED).view[:size]
    with direct(client.disk) as here, direct(provider.disk) as there:
        plain[:] = data
        os.pwritev(here, [plain], 0)
        for piece in pieces:
            piece[:] = bytes(len(piece))
        with decisions() as found:
            expect(os.preadv(here, pieces, 0) == size, f"{name}: short read")
        check(found, name)
        expect(b"".join(pieces) == data, f"{name}: other bytes came")
        # A controller takes its own buffer for all of a command or for nothing.
        os.pwritev(there, [plain] if mixed(name) else pieces, 0)
        plain[:] = bytes(size)
        os.preadv(there, [plain], 0)
        expect(plain == data, f"{name}: other bytes are on the provider's disk")
        with decisions() as found:
            os.pwritev(here, pieces, 1 << 20)
        check(found, name)
        plain[:] = bytes(size)
        os.preadv(here, [plain], 1 << 20)
        expect(plain == data, f"{name}: other bytes are on the client's disk")


def chosen(pieces: list[memoryview], name: str) -> None:
    """What has a bus address is in no IOVA range, though other memory was linked before it."""
    if name == "misaligned":
        return
    with direct(client.disk) as fd, decisions() as found:
        status = read_nowhere(fd, pieces)
    expect(status & 0x7FF == LBA_OUT_OF_RANGE, f"{name}: the controller says {status:#x}")
    check(found, name)
    nothing_left(client, provider)


def refused(pieces: list[memoryview], name: str) -> None:
    """What cannot be reached is refused, before and after other memory was mapped."""
    with direct(client.disk) as fd, decisions() as found:
        try:
            os.preadv(fd, pieces, 0)
            expect(False, f"{name}: went through")
        except OSError as error:
            expect(error.errno == errno.EREMOTEIO, f"{name}: {error}")
    expect(any(each.error == -errno.EREMOTEIO for each in found), f"{name}: {found}")
    nothing_left(client, provider)


def main() -> None:
    """With PRPs, then with SGLs."""
    rng = random.Random(SEED)
    peer, own = peer_memory(SIZE), Memory(SIZE, SEED).view
    for threshold in (0, 1):
        set_sgl_threshold(threshold)
        for name, pieces in vectors(peer, own).items():
            if KIND == "refused":
                refused(pieces, name)
            elif KIND == "chosen":
                chosen(pieces, name)
            else:
                copied(rng, pieces, name)
    nothing_left(client, provider)
    print(f"{KIND}: peer's memory, nothing left behind")


main()
