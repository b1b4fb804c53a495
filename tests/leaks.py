"""Test secrets, in shapes that are known, and a search of everything that a repository keeps."""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

_ARMOUR = "PRIVATE" + " KEY-----"  # in pieces all through: this file must not look as if it had secrets
_LETTERS = "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv"

SHAPED = {
    "openai-key": "sk-" + "proj-" + _LETTERS * 2,
    "openai-key of old": "sk-" + _LETTERS,
    "anthropic-key": "sk-" + "ant-api03-" + _LETTERS + "-" + _LETTERS,
    "openrouter-key": "sk-" + "or-v1-" + "0123456789abcdef" * 4,
    "aws-key": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws-key for a time": "ASIA" + "IOSFODNN7EXAMPLE",
    "github-token": "ghp_" + _LETTERS + "Wxyz",
    "github-token of an app": "gho_" + _LETTERS + "Wxyz",
    "github-token fine-grained": "github_" + "pat_" + _LETTERS + "_" + _LETTERS,
    "gitlab-token": "glpat-" + _LETTERS[:20],
    "slack-token": "xoxb-" + "123456789012-" + _LETTERS,
    "slack-token of an app": "xapp-" + "1-A012-" + _LETTERS,
    "stripe-key": "sk_" + "live_" + _LETTERS,
    "stripe-key restricted": "rk_" + "live_" + _LETTERS,
    "webhook-secret": "whsec_" + _LETTERS,
    "google-key": "AIza" + "Sy" + _LETTERS + "z",
    "google-secret": "GOCSPX-" + _LETTERS,
    "google-token": "ya29." + _LETTERS,
    "npm-token": "npm_" + _LETTERS + "Wxyz",
    "pypi-token": "pypi-" + "AgEI" + _LETTERS * 2,
    "hugging-face-token": "hf_" + _LETTERS,
    "groq-key": "gsk_" + _LETTERS * 2,
    "xai-key": "xai-" + _LETTERS * 2,
    "sendgrid-key": "SG." + _LETTERS[:22] + "." + _LETTERS * 2,
    "digitalocean-token": "dop_" + "v1_" + "0123456789abcdef" * 4,
    "vault-token": "hvs." + _LETTERS,
    "docker-token": "dckr_" + "pat_" + _LETTERS,
    "shopify-token": "shpat_" + "0123456789abcdef" * 2,
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + "." + _LETTERS,
    "private-key": f"-----BEGIN RSA {_ARMOUR}\nProc-Type: 4,ENCRYPTED\n\n{_LETTERS}\n-----END RSA {_ARMOUR}",
    "private-key of SSH": f"-----BEGIN OPENSSH {_ARMOUR}\n{_LETTERS}\n{_LETTERS}\n-----END OPENSSH {_ARMOUR}",
    "private-key of age": "AGE-SECRET-" + "KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2,
}
"""Each of these is a secret from its first character to its last, by the name of its shape."""

AMID = {
    "authorization": ("Authorization: Bearer ", "abcdef123456", "\n"),
    "authorization in JSON": ('{"Authorization": "Basic ', "dXNlcjpwYXNzd29yZA==", '"}'),
    "authorization alone": ("curl -H bearer ", _LETTERS, " https://example.com"),
    "password": ("postgres://app:", "hunter2hunter", "@db.example.com/x"),
    "aws-secret": ("aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY", "\n"),
    "aws-secret in JSON": ('"SecretAccessKey": "', "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY", '"'),
    "azure-key": ("AccountName=x;AccountKey=", "0123456789abcdef+/" * 4 + "==", ";"),
    "slack-webhook": ("https://hooks.slack.com/services/", "T00000000/B00000000/" + _LETTERS, ")"),
}
"""What is a secret for what stands around it: before, the secret, after."""


def token(place: str) -> str:
    """A secret of a known shape, another one for each place."""
    return "ghp_" + hashlib.sha256(place.encode()).hexdigest()[:36]


def forms(secret: str) -> Iterable[str]:
    """A secret as it is, and as JSON may write it, up to JSON within JSON within JSON."""
    for ascii_only in (False, True):
        text = secret
        for _ in range(4):
            yield text
            text = json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def kept(repository: Path) -> bytes:
    """Every object of a repository, and every other file in its folder."""
    batch = ["git", "-C", str(repository), "cat-file", "--batch-all-objects", "--batch", "--buffer"]
    objects = subprocess.run(batch, capture_output=True, check=True).stdout
    assert objects.count(b"\ntree ") > 0
    files = (path for path in sorted(repository.rglob("*")) if path.is_file())
    return b"\0".join(
        [objects, *(str(path.relative_to(repository)).encode() + b"\n" + path.read_bytes() for path in files)]
    )


def leaked(repository: Path, secrets: Mapping[str, str]) -> set[str]:
    """The names of the secrets that a repository keeps, in any form."""
    everything = kept(repository)
    return {name for name, secret in secrets.items() if any(form.encode() in everything for form in forms(secret))}
