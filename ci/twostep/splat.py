"""What in a kernel log is a splat: the kernel itself says that something is wrong.

The patterns match the message of a log line, after its time stamp. The taint
mask that the guest reports at its end is the second witness, for a kind of
warning that no pattern here knows.
"""

import re

LINE = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?(.*)$")

SPLATS = re.compile(
    "|".join(
        (
            r"WARNING: ",  # WARN, lockdep, suspicious RCU usage
            r"BUG[: ]",  # KASAN, page faults, sleeping in atomic, soft lockups
            r"kernel BUG at ",
            r"Oops: ",
            r"general protection fault",
            r"Kernel panic - not syncing",
            r"UBSAN: ",
            r"INFO: task .* blocked.* for more than",
            r"INFO: trying to register non-static key",
            r"INFO: possible ",
            r"(?:rcu: )?INFO: .*(?:stall|detected)",
            r"watchdog: BUG: ",
            r"irq \d+: nobody cared",
            r"unregister_netdevice: waiting for ",  # a reference to a network device leaked
            r"kmemleak: \d+ new suspected memory leaks",
            r"kmemleak: .*disabled",
            r"ODEBUG: ",
            r"DMA-API: .*",
            r"refcount_t: ",
            r"(?:list_add|list_del) corruption",
            r"unreferenced object ",
            r"DMAR: \[.*(?:fault|Fault)",  # a device reached memory it had no mapping for
            r"DMAR: VT-d detected ",
            r"virtio_iommu .*: .*fault",
        )
    )
)

# Announcements that begin like a splat and are none.
HARMLESS = re.compile(
    r"DMA-API: preallocated \d+ debug entries"
    r"|DMA-API: debugging enabled by kernel config"
    r"|DMA-API: dma_debug_entry pool grown"
    r"|DMA-API: debugging disabled on kernel command line"
)

# What a kernel says of itself when its command line has this word.
ASKED_FOR = {"kmemleak=off": re.compile(r"kmemleak: .*disabled")}

# Taint bits that no healthy run sets: D (oops), W (warning), B (bad page), L (lockup).
TAINT_BITS = {5: "bad page", 7: "oops", 9: "warning", 14: "soft lockup"}


def splats(log: str) -> list[str]:
    """The messages in LOG that are splats, in order."""
    found = []
    harmless = [HARMLESS]
    for line in log.splitlines():
        match = LINE.match(line.rstrip("\r"))
        message = match[1] if match else ""
        if message.startswith("Command line: "):
            harmless += [ASKED_FOR[word] for word in message.split() if word in ASKED_FOR]
        if SPLATS.match(message) and not any(each.match(message) for each in harmless):
            found.append(message)
    return found


def taint_names(taint: int) -> list[str]:
    """What the taint mask says went wrong."""
    return [name for bit, name in TAINT_BITS.items() if taint & 1 << bit]
