"""Where it is measured: the cores, and what to say about the machine."""

from __future__ import annotations

import os
import platform
import resource
import shutil
from importlib.metadata import version
from pathlib import Path


def pinned(role: int) -> list[str]:
    """What to put before a command so that it keeps to a core of its own.

    `role` 0 is the server's core, 1 the load's. Empty where there is one core, or no `taskset`.
    """
    if not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None:
        return []
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[role])] if len(cores) > role > -1 and len(cores) > 1 else []


def raise_file_limit() -> int:
    """Allow as many open files as the system lets us; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def description() -> str:
    """The machine and the versions that matter, in one line."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "uvloop", "msgspec"))
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, {python}, {libraries}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
