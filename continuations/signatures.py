"""Signatures: SSH signatures of commits, in git's own format, made and checked by OpenSSH's ``ssh-keygen``.

Synchronous. No program and no file is taken from a repository's configuration: only a person's own names their key.
"""

import datetime as dt
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ._calls import Person
from ._errors import CallerError
from ._ids import CommitId
from .policy import BadPolicy, Policy
from .store import Store

Sign = Callable[[bytes, Person], str]
"""Signs a commit's bytes for its author."""

NAMESPACE = "git"
"""What git's signatures are made for: one made for a file, or a login, is none of a commit."""

_GOOD = re.compile(r'Good "git" signature for .* with \S+ key (SHA256:\S+)')
_HOW = (
    "git config --global gpg.format ssh; git config --global user.signingkey ~/.ssh/id_ed25519.pub"
    " (or 'key::ssh-ed25519 …' for a key in ssh-agent)"
)


class NoSigningKey(CallerError):
    """Decisions must be signed, and a person's own git configuration names no SSH key."""


class SigningFailed(CallerError):
    """A decision could not be signed in a way that the allowed signers' file accepts. Nothing was decided."""


class Checked(NamedTuple):
    """What a signature is worth: the fingerprint of the listed key that made it, or why it is worth nothing."""

    key: str
    fault: str


def split_signature(commit: bytes) -> tuple[bytes, str]:
    """A commit's bytes without its signature, which is what was signed, and the signature; empty if there is none."""
    head, blank, message = commit.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    inside, found = False, 0
    for line in head.split(b"\n"):
        inside = line.startswith(b"gpgsig ") or (inside and line.startswith(b" "))
        found += line.startswith(b"gpgsig ")
        (signature if inside else kept).append(line)
    if found != 1:  # of two, git and we might choose differently
        return commit, ""
    text = b"\n".join(line.removeprefix(b"gpgsig ").removeprefix(b" ") for line in signature)
    return b"\n".join(kept) + blank + message, text.decode("ascii", "replace") + "\n"


class AllowedSigners:
    """Who may sign: OpenSSH's allowed-signers file, and perhaps one of revoked keys (a KRL, or public keys)."""

    def __init__(self, listed: Path, revoked: Path | None = None) -> None:
        self._listed = listed
        self._revoked = revoked

    def require(self) -> None:
        """Check that the files are there.

        Raises:
            BadPolicy: one is missing.
        """
        for file in (self._listed, self._revoked):
            if file is not None and not file.is_file():
                raise BadPolicy(f"There is no file {file} of signers.", hint="Mend the policy, in caesura.toml.")

    def check(self, signed: bytes, signature: str, person: Person, now: dt.datetime) -> Checked:
        """Whether a key that is listed for the person made the signature, and is good for it now.

        Now, not when the commit says that it was made: whoever has a lost key can write any date.

        Raises:
            BadPolicy: a file is missing.
            SigningFailed: there is no ssh-keygen.
        """
        self.require()
        if not signature:
            return Checked("", "is not signed")
        with _folder() as folder:
            file = folder / "signature"
            file.write_text(signature)
            command = ["-Y", "verify", "-n", NAMESPACE, "-f", str(self._listed.absolute()), "-I", person.email]
            command += ["-s", str(file), f"-Overify-time={now.astimezone():%Y%m%d%H%M%S}"]
            command += [] if self._revoked is None else ["-r", str(self._revoked.absolute())]
            said = _keygen(command, stdin=signed)
            good = _GOOD.match(said.stdout.decode("utf-8", "replace"))
            if said.returncode == 0 and good is not None:
                return Checked(good[1], "")
            whole = _keygen(["-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(file)], stdin=signed).returncode == 0
        if whole:
            return Checked("", f"is not signed by a key that is listed for {person.email}")
        return Checked("", "has a signature that is not of its commit")


def allowed_signers(policy: Policy) -> AllowedSigners | None:
    """Who may sign by a policy; None if decisions need no signatures."""
    if policy.allowed_signers is None:
        return None
    return AllowedSigners(
        Path(policy.allowed_signers), None if policy.revoked_signers is None else Path(policy.revoked_signers)
    )


def signature_of(store: Store, commit: CommitId, policy: Policy | None, now: dt.datetime) -> Checked | None:
    """What the signature of a commit is worth by a policy; None if it has none.

    Raises:
        BadPolicy: a file of signers is missing.
        SigningFailed: there is no ssh-keygen.
    """
    signed, signature = split_signature(store.raw(commit))
    if not signature:
        return None
    allowed = None if policy is None else allowed_signers(policy)
    if allowed is None:
        return Checked("", "has a signature, and no policy here says whose counts")
    return allowed.check(signed, signature, store.read(commit).author, now)


class Signer:
    """Signs for the person at the keyboard, with the key that their own git configuration names.

    The key may be a file, its passphrase asked for on the terminal, or a public key whose other half is in ssh-agent.
    """

    def __init__(self, store: Store, allowed: AllowedSigners, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._allowed = allowed
        self._now = now

    def __call__(self, signed: bytes, person: Person) -> str:
        """Sign a commit's bytes.

        Raises:
            NoSigningKey: git's configuration names no SSH key.
            SigningFailed: ssh-keygen cannot sign with it, or it is not listed for that person.
        """
        key = self._store.setting("user.signingkey")
        if not key or self._store.setting("gpg.format") != "ssh":
            raise NoSigningKey("A decision must be signed here, and git names no SSH key of yours.", hint=_HOW)
        signature = _signature(key, signed)
        checked = self._allowed.check(signed, signature, person, self._now())
        if checked.fault:
            raise SigningFailed(
                f"What you sign would not count: it {checked.fault}.",
                hint="Nothing was decided. Sign with a key that the allowed signers' file lists for you.",
            )
        return signature


def _signature(key: str, signed: bytes) -> str:
    literal = key.removeprefix("key::") if key.startswith(("key::", "ssh-")) else None
    with _folder() as folder:
        file = Path(key).expanduser().absolute()
        if literal is not None:
            file = folder / "key.pub"
            file.write_text(literal + "\n")
        text = folder / "commit"
        text.write_bytes(signed)
        # Standard input and error stay the terminal's: ssh-keygen asks there for a passphrase, or a touch.
        said = _keygen(["-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(file), str(text)])
        if said.returncode != 0:
            raise SigningFailed(
                f"ssh-keygen could not sign with {key}.",
                hint="Nothing was decided. Try 'ssh-keygen -Y sign -n git -f KEY FILE' by hand; is it in ssh-agent?",
            )
        return (folder / "commit.sig").read_text().strip()


def _keygen(arguments: list[str], stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    talks = stdin is None
    try:
        return subprocess.run(  # noqa: S603  # no argument can be taken for an option: each follows its own
            ["ssh-keygen", *arguments],  # noqa: S607  # OpenSSH's, wherever this machine has it
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=None if talks else subprocess.PIPE,
            check=False,
        )
    except OSError as error:
        raise SigningFailed(
            f"ssh-keygen cannot be run: {error.strerror}.", hint="Install OpenSSH 8.2 or later."
        ) from error


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="caesura-") as folder:
        yield Path(folder)
