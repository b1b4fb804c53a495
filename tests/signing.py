"""People with SSH keys of their own, real ones, and the files that list them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2

from caesura.continuations import GitStore, Loops, Person, Policy


def ssh_keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, capture_output=True)


class Key:
    """An SSH key in a file."""

    def __init__(self, folder: Path, name: str, passphrase: str = "") -> None:
        self.file = folder / name
        ssh_keygen("-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(self.file))

    @property
    def public(self) -> str:
        """The public half, without its comment."""
        return " ".join((self.file.parent / f"{self.file.name}.pub").read_text().split()[:2])


class Keys:
    """Keys by person, and the allowed signers' file that lists some of them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "allowed_signers"
        self.file.touch()
        self._keys: dict[str, Key] = {}

    def of(self, person: Person) -> Key:
        """A person's key, made when it is first asked for."""
        if person.email not in self._keys:
            self._keys[person.email] = Key(self.folder, person.email)
        return self._keys[person.email]

    def list(self, *people: Person, options: str = 'namespaces="git"') -> str:
        """List these people's keys, and no others; the file's path."""
        lines = [f"{person.email} {options} {self.of(person).public}\n" for person in people]
        self.file.write_text("".join(lines))
        return str(self.file)


class KeyStore(GitStore):
    """A repository as a person opens it whose git configuration names a key."""

    key: str | None = None

    def setting(self, name: str) -> str | None:
        """What that person's configuration says."""
        return {"gpg.format": "ssh", "user.signingkey": self.key}.get(name)


@contextmanager
def signing(path: Path, policy: Policy | None, key: str | Path | None) -> Iterator[Loops]:
    """Loops, for somebody with that key."""
    store = KeyStore(pygit2.Repository(str(path)))
    store.key = None if key is None else str(key)
    with Loops(store, policy=policy) as loops:
        yield loops


@contextmanager
def agent_with(*keys: Key) -> Iterator[dict[str, str]]:
    """A real ssh-agent that holds these keys, as the environment that finds it."""
    socket = keys[0].file.parent / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it says where it listens once it does
        found = {"SSH_AUTH_SOCK": str(socket)}
        for key in keys:
            subprocess.run(["ssh-add", "-q", str(key.file)], check=True, env={**os.environ, **found})
        yield found
    finally:
        process.terminate()
        process.wait()
        process.stdout.close() if process.stdout is not None else None
