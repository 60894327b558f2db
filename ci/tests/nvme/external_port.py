"""Writes an ACPI table that calls a PCIe root port external: devices below it are not trusted.

external_port.py FILE ACPI_NAME
"""

import sys
import uuid
from pathlib import Path

PROPERTY = uuid.UUID("efcc06cc-73ac-4bc3-bff0-76143807c389")


def sized(operation: int, content: bytes) -> bytes:
    """An AML operation with its package length."""
    length = len(content) + 1
    if length < 0x40:
        return bytes([operation, length]) + content
    length += 1
    return bytes([operation, 0x40 | length & 0x0F, length >> 4]) + content


def package(*elements: bytes) -> bytes:
    """An AML package."""
    return sized(0x12, bytes([len(elements)]) + b"".join(elements))


def table(port: str) -> bytes:
    """The SSDT that gives the port \\_SB.PCI0.PORT the property ExternalFacingPort."""
    pair = package(b"\x0dExternalFacingPort\0", b"\x01")
    name = sized(0x11, b"\x0a\x10" + PROPERTY.bytes_le)
    data = b"\x08_DSD" + package(name, package(pair))
    scope = sized(0x10, b"\\\x2f\x03_SB_PCI0" + port.ljust(4, "_").encode() + data)
    header = b"SSDT" + (36 + len(scope)).to_bytes(4, "little") + b"\x02\0TWOSTPEXTERNAL"
    whole = bytearray(header + b"\x01\0\0\0TWST\x01\0\0\0" + scope)
    whole[9] = -sum(whole) & 0xFF
    return bytes(whole)


Path(sys.argv[1]).write_bytes(table(sys.argv[2]))
