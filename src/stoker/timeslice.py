"""Short slices of CPU time for a process whose answers others wait for. Used by the gateway; needs no privilege.

Linux gives waiting processes their turn by deadline, and a process that asks for short slices has early ones (EEVDF;
kernel 6.12 and later, `sched_setattr(2)`: `sched_runtime` of SCHED_OTHER). It gets no more of the CPU than before.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import Final

# What a small request costs, twice over; the kernel takes from 0.1 to 100 ms.
SLICE_S: Final = 0.0001

# Numbers of sched_setattr and sched_getattr: the C library has no names for them before glibc 2.41.
_CALLS: Final = {"x86_64": (314, 315), "aarch64": (274, 275)}
# struct sched_attr as of its first version: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTR: Final = struct.Struct("=IIQiIQQQ")
_SCHED_OTHER: Final = 0


def ask_for_short_slices(slice_s: float = SLICE_S) -> str | None:
    """Ask for slices of so many seconds for this thread and those that it starts. Why not, where that is not possible.

    Kernels from before 6.12 say yes and change nothing.
    """
    calls = _CALLS.get(platform.machine())
    if sys.platform != "linux" or calls is None:
        return "only Linux on x86-64 or arm64 is asked for it"
    libc = ctypes.CDLL(None, use_errno=True)
    set_, get = calls
    attr = ctypes.create_string_buffer(_ATTR.size)
    if libc.syscall(get, 0, attr, _ATTR.size, 0):
        return os.strerror(ctypes.get_errno())
    size, policy, flags, nice, priority, _, deadline, period = _ATTR.unpack(attr.raw)
    if policy != _SCHED_OTHER:
        return "it was started with a scheduling policy of its own"
    attr.raw = _ATTR.pack(size, policy, flags, nice, priority, round(slice_s * 1e9), deadline, period)
    return os.strerror(ctypes.get_errno()) if libc.syscall(set_, 0, attr, 0) else None


def slice_s() -> float | None:
    """The slice that was asked for, in seconds, or the kernel's own; `None` where it cannot be known."""
    calls = _CALLS.get(platform.machine())
    if sys.platform != "linux" or calls is None:
        return None
    attr = ctypes.create_string_buffer(_ATTR.size)
    if ctypes.CDLL(None, use_errno=True).syscall(calls[1], 0, attr, _ATTR.size, 0):
        return None
    return float(_ATTR.unpack(attr.raw)[5]) / 1e9
