"""The QEMU command line of a Machine: q35, a vIOMMU, real NVMe controllers.

Paravirtual devices (root disk, ports, 9p) bypass the vIOMMU as they do on a
real host that does not ask for VIRTIO_F_ACCESS_PLATFORM; only NVMe goes
through it, so what it counts is the path under test.
"""

import os
import tempfile
from pathlib import Path

from twostep.accel import accelerator, tsc_khz
from twostep.kernel import Kernel
from twostep.options import Machine
from twostep.paths import CACHE, root_disk

GDB_PORT = 1234
PORTS = ("out", "err", "status", "in")


def kernel_arguments(machine: Machine) -> str:
    """The kernel command line."""
    words = [
        "console=ttyS0 loglevel=7 printk.devkmsg=on",
        "root=/dev/vda ro rootfstype=ext4 init=/twostep/init",
        # a splat must reach the host: reboot at once, and QEMU ends
        "panic=-1 oops=panic",
        # a busy host makes a guest slow, not stuck
        "rcupdate.rcu_cpu_stall_timeout=60 watchdog_thresh=30 tsc=reliable no_timer_check",
        # KUnit suites run where a test asks for them, not at every boot
        "kunit.enable=0",
        "intel_iommu=on iommu.passthrough=0",
        f"iommu.strict={0 if machine.lazy else 1}",
    ]
    if machine.kernel == "debug" and not machine.rxe:
        # Who writes by DMA to a page that was freed; what soft-RoCE copies KASAN sees.
        words.append("page_poison=1")
    if machine.gdb or machine.icount:
        words.append("nokaslr")
    if not machine.icount and accelerator(machine.kernel) == "tcg":
        words.append(f"tsc_early_khz={tsc_khz()}")
    return " ".join(words + machine.append)


def _iommu(machine: Machine) -> list[str]:
    if machine.iommu == "intel":
        # With caching mode Linux refuses to be lazy, whatever its command line says.
        caching = "off" if machine.lazy else "on"
        return ["-device", f"intel-iommu,intremap=on,caching-mode={caching}"]
    if machine.iommu == "virtio":
        return ["-device", "virtio-iommu-pci"]
    return []


def sparse_disk(size: str) -> int:
    """A descriptor of an empty disk that vanishes with its last user."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    count = int(size[:-1]) * factor[size[-1]] if size[-1] in factor else int(size)
    with tempfile.TemporaryFile(dir=CACHE, buffering=0) as file:
        file.truncate(count)
        return os.dup(file.fileno())


def _nvme(machine: Machine, fds: list[int]) -> list[str]:
    words = []
    for number, size in enumerate(machine.nvme):
        fd = sparse_disk(size)
        fds.append(fd)
        words += [
            "-add-fd", f"fd={fd},set={number + 1}",
            "-blockdev", f"raw,node-name=nvme{number},file.driver=file,"
            f"file.filename=/dev/fdset/{number + 1},discard=unmap",
            "-device", f"nvme,serial=twostep{number},drive=nvme{number},mdts=9,cmb_size_mb=64",
        ]
    return words


def command_line(
    machine: Machine,
    kernel: Kernel,
    folder: Path,
    console: Path,
    ports: dict[str, int],
    fds: list[int],
) -> list[str]:
    """How to start QEMU. FOLDER is the guest's 9p folder; every descriptor it
    must inherit is added to FDS."""
    if machine.icount:
        accel = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-seed", "1",
                 "-rtc", "base=2026-01-01T00:00:00,clock=vm"]
    else:
        accel = ["-accel", "kvm" if accelerator(machine.kernel) == "kvm" else "tcg,thread=multi"]
    words = [
        # QEMU ends with this process, even if it is killed
        "setpriv", "--pdeathsig", "KILL",
        "qemu-system-x86_64", "-name", "twostep", "-nodefaults", "-no-user-config",
        "-M", "q35,kernel-irqchip=split", *accel,
        "-cpu", "host" if "kvm" in accel else "max",
        "-m", machine.mem, "-smp", str(machine.cpus),
        "-display", "none", "-vga", "none", "-net", "none", "-no-reboot",
        "-kernel", str(kernel.image), "-append", kernel_arguments(machine),
        "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
        *_iommu(machine),
        "-blockdev",
        f"raw,node-name=root,read-only=on,file.driver=file,file.filename={root_disk()}",
        "-device", "virtio-blk-pci,drive=root",
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial-pci,max_ports=8",
    ]
    for name, fd in ports.items():
        fds.append(fd)
        words += ["-chardev", f"socket,id={name},fd={fd}",
                  "-device", f"virtserialport,chardev={name},name={name}"]
    shares = {"guest": (folder, "on"), "modules": (kernel.modules, "on")}
    if machine.share is not None:
        shares["share"] = (Path(machine.share), "off")
    for tag, (path, readonly) in shares.items():
        quoted = str(path).replace(",", ",,")
        local = f"local,id={tag},path={quoted},security_model=passthrough,readonly={readonly}"
        words += ["-fsdev", local,
                  "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    words += _nvme(machine, fds)
    if machine.gdb:
        words += ["-S", "-gdb", f"tcp:127.0.0.1:{GDB_PORT}"]
    for extra in machine.qemu:
        words += extra.split(" ") if extra.startswith("-") else [extra]
    return words
