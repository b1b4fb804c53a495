"""Whose a file is: files that only mean something while a process lives carry that process's identity."""

import functools
import hashlib
import os
import secrets
import socket
from pathlib import Path


def born(pid: int) -> str:
    """When a process of this machine began: the machine's boot, and the kernel's ticks since; empty if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    # A zombie has ended, though its parent may never take note of it.
    return "" if state in "ZX" else f"{boot()} {fields[18]}"


@functools.cache
def born_as(pid: int) -> str:
    """`born`, of this very process, whose number this is: it is found out once."""
    return born(pid)


def boot() -> str:
    """Which boot of which machine this is; empty if the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def mark() -> str:
    """A name for a file of this process, never used twice."""
    return f"{_process(os.getpid())}-{secrets.token_hex(6)}"


def is_dead(marked: str) -> bool:
    """Whether the owner of a name that `mark` made is known to be gone; never true of one that may live elsewhere."""
    place, _, rest = marked.partition("-")
    pid, _, rest = rest.partition("-")
    ticks = rest.partition("-")[0]
    if place != _place() or not pid.isdigit() or not ticks:
        return False
    return born(int(pid)).partition(" ")[2] != ticks


@functools.cache
def _process(pid: int) -> str:
    return f"{_place()}-{pid}-{born(pid).partition(' ')[2]}"


@functools.cache
def _place() -> str:
    """Where numbers of processes mean the same: this boot of this machine, seen from within the same container."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {boot()} {space}".encode()).hexdigest()[:12]
