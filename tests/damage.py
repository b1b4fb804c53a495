"""Real damage: files of objects and refs torn in every way in which disks, power cuts and people tear them."""

import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

HOW: dict[str, Callable[[bytes], bytes | None]] = {
    "zero length": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "flipped bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :],
    "missing": lambda data: None,
    "another's content": lambda data: zlib.compress(b"blob 5\x00other"),
}
"""Ways to tear a file of an object."""

REFS: dict[str, bytes] = {
    "empty": b"",
    "cut short": b"0123456789",
    "zeroes": b"\x00" * 41,
    "not text": b"\xff\xfe\xfd",
    "symbolic to itself": b"ref: refs/heads/loops/LOOP\n",
    "to nothing": b"1" * 40 + b"\n",
}
"""What may stand in a torn ref."""


def git(folder: Path, *words: str, check: bool = True) -> str:
    """What git says."""
    done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


def is_whole(folder: Path) -> bool:
    """Whether ``git fsck --strict`` finds no fault."""
    done = subprocess.run(
        ["git", "-C", folder, "fsck", "--strict", "--no-dangling"], capture_output=True, text=True, check=False
    )
    return done.returncode == 0 and not done.stdout.strip()


def object_of(folder: Path, revision: str) -> str:
    """The id of what a revision names."""
    return git(folder, "rev-parse", revision)


def file_of(folder: Path, object_id: str) -> Path:
    """The file of its own that an object has."""
    return folder / "objects" / object_id[:2] / object_id[2:]


def tear(file: Path, how: str) -> None:
    """Damage a file."""
    data = HOW[how](file.read_bytes())
    file.unlink()  # a clone may share the file itself
    if data is not None:
        file.write_bytes(data)


def tear_in_pack(folder: Path, object_id: str, how: str) -> None:
    """Damage an object within the one pack there is, or, where that is all that can be done, the pack."""
    (pack,) = (folder / "objects" / "pack").glob("*.pack")
    lines = git(folder, "verify-pack", "-v", str(pack.with_suffix(".idx"))).splitlines()
    fields = next(line.split() for line in lines if line.startswith(object_id))
    size, offset = int(fields[3]), int(fields[4])
    data = pack.read_bytes()
    middle = offset + size // 2
    torn = {
        "flipped bit": data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :],
        "another's content": data[:offset] + os.urandom(size) + data[offset + size :],
        "an absurd length": data[:offset] + b"\xbf" + b"\xff" * 6 + b"\x01" + data[offset + 8 :],
        "zero length": data[:offset] + bytes(size) + data[offset + size :],
        "truncated": data[: offset + size // 2],
        "missing": b"",
    }[how]
    pack.chmod(0o644)
    pack.write_bytes(torn)


LOCKS = {"caesura.exclusive", "caesura.sealing", "caesura.upkeep"}
"""Empty files on which processes hold locks."""


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file in a repository, for telling that nothing changed, or that nothing is lost."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name not in LOCKS)


def copied(folder: Path, to: Path) -> Path:
    """A copy of a repository, file by file."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to
