"""Counts a process's own instructions, if the kernel allows it."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

# perf_event_open's number.
_SYSCALLS = {"x86_64": 298, "aarch64": 241}
_TYPE_HARDWARE, _COUNT_INSTRUCTIONS = 0, 1
# Includes threads that begin later; excludes the kernel and the hypervisor.
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HV = 1 << 1, 1 << 5, 1 << 6
_ATTRIBUTES = struct.Struct("=IIQQQQQ")
_SIZE = 112


class Counter:
    """Counts this process's instructions from now on, with those of threads that begin later.

    `read` returns `None` if they can't be counted, as in most virtual machines.
    """

    def __init__(self, kind: int = _TYPE_HARDWARE, config: int = _COUNT_INSTRUCTIONS) -> None:
        self._file = _open(kind, config)

    def read(self) -> int | None:
        if self._file < 0:
            return None
        (count,) = struct.unpack("=Q", os.read(self._file, 8))
        return int(count)


def _open(kind: int, config: int) -> int:
    number = _SYSCALLS.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        return -1
    flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HV
    # Of struct perf_event_attr: type, size, config, sample period, sample type, read format, flags.
    attributes = ctypes.create_string_buffer(_SIZE)
    _ATTRIBUTES.pack_into(attributes, 0, kind, _SIZE, config, 0, 0, 0, flags)
    this_process, any_cpu, no_group, nothing = 0, -1, -1, 0
    libc = ctypes.CDLL(None, use_errno=True)
    return int(
        libc.syscall(number, ctypes.byref(attributes), this_process, any_cpu, no_group, nothing)
    )
