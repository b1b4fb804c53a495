r"""Shapes of secrets: what keys and tokens look like, as their issuers document it.

Every pattern is matched in time linear in the text, whatever the text: what a match may begin with is a literal or the
beginning of a run of characters, no quantifier is nested in another unless possessive, and what is not bounded either
ends the pattern or cannot be entered twice. A text may be JSON, or JSON within JSON: ``\n`` may be written as it is
read, so what follows it is a beginning too.
"""

from typing import NamedTuple


class Shape(NamedTuple):
    """One kind of secret. Each match holds one of the `needles`, in lower case; group ``kept`` of it is no secret."""

    name: str
    needles: tuple[str, ...]
    pattern: str


_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4}))"
_RUN = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4}))"
_QUOTED = r"""["'\\\s]{0,10}"""
_WORD = "[A-Za-z0-9_-]"
# Between the lines of a key: in a file, in JSON, in a program's strings. What is between its armour, or, if it was cut
# off, the lines that look like it.
_GAP = r"""(?:[\s"',;+]|\\+[nrt"'])"""
_PEM = (
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----"
    r"(?:(?:[^-]|-(?!----))*+-----END [A-Z0-9 ]{0,60}-----"
    rf"|(?:{_GAP}*+[A-Za-z0-9+/=]{{16,}}+)*+)"
)

SHAPES = (
    Shape("private-key", ("private key",), _PEM),
    Shape("private-key", ("age-secret-key-1",), r"AGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    Shape("jwt", ("eyj",), rf"{_RUN}eyJ{_WORD}{{8,}}+\.{_WORD}{{8,}}+(?:\.{_WORD}*+){{1,3}}"),
    Shape("anthropic-key", ("sk-ant-",), rf"{_START}sk-ant-{_WORD}{{20,}}"),
    Shape(
        "openai-key",
        ("sk-",),
        rf"{_START}sk-(?:(?:proj|svcacct|admin|None)-{_WORD}{{20,}}|[A-Za-z0-9]{{20,}})",
    ),
    Shape("openrouter-key", ("sk-or-",), rf"{_START}sk-or-{_WORD}{{20,}}"),
    Shape("aws-key", ("akia", "asia", "abia", "acca"), rf"{_START}A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{{16}}(?![A-Za-z0-9])"),
    Shape(
        "aws-secret",
        ("accesskey", "access_key", "sessiontoken", "session_token"),
        rf"(?P<kept>(?i:secret_?access_?key|session_?token){_QUOTED}[:=]>?{_QUOTED})[A-Za-z0-9/+=]{{40,}}",
    ),
    Shape("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{36,}"),
    Shape("github-token", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{22,}"),
    Shape(
        "gitlab-token",
        ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "gloas-"),
        rf"{_START}gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas)-[A-Za-z0-9_.-]{{20,}}",
    ),
    Shape("slack-token", ("xox",), r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{10,}"),
    Shape("slack-token", ("xapp-",), rf"{_START}xapp-[0-9]-[A-Za-z0-9-]{{10,}}"),
    Shape("slack-webhook", ("hooks.slack.com",), r"(?P<kept>hooks\.slack\.com/[a-z]{1,20}/)[A-Za-z0-9/]{20,}"),
    Shape("stripe-key", ("k_live_", "k_test_"), rf"{_START}[srp]k_(?:live|test)_[A-Za-z0-9]{{10,}}"),
    Shape("webhook-secret", ("whsec_",), rf"{_START}whsec_[A-Za-z0-9+/=]{{20,}}"),
    Shape("google-key", ("aiza",), rf"AIza{_WORD}{{35,}}"),
    Shape("google-secret", ("gocspx-",), rf"GOCSPX-{_WORD}{{20,}}"),
    Shape("google-token", ("ya29.",), rf"{_START}ya29\.{_WORD}{{20,}}"),
    Shape("npm-token", ("npm_",), rf"{_START}npm_[A-Za-z0-9]{{36,}}"),
    Shape("pypi-token", ("pypi-",), rf"{_START}pypi-{_WORD}{{32,}}"),
    Shape("hugging-face-token", ("hf_",), rf"{_START}hf_[A-Za-z0-9]{{30,}}"),
    Shape("groq-key", ("gsk_",), rf"{_START}gsk_[A-Za-z0-9]{{40,}}"),
    Shape("xai-key", ("xai-",), rf"{_START}xai-[A-Za-z0-9]{{40,}}"),
    Shape("sendgrid-key", ("sg.",), rf"{_START}SG\.{_WORD}{{16,64}}\.{_WORD}{{30,}}"),
    Shape("digitalocean-token", ("_v1_",), rf"{_START}do[opr]_v1_[a-f0-9]{{64}}"),
    Shape("vault-token", ("hvs.", "hvb."), rf"{_START}hv[sb]\.{_WORD}{{20,}}"),
    Shape("docker-token", ("dckr_pat_",), rf"dckr_pat_{_WORD}{{20,}}"),
    Shape("shopify-token", ("shpat_", "shpca_", "shppa_", "shpss_"), r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32,}"),
    Shape("azure-key", ("accountkey",), rf"(?P<kept>(?i:AccountKey){_QUOTED}={_QUOTED})[A-Za-z0-9/+=]{{40,}}"),
    Shape(
        "authorization",
        ("authorization",),
        rf"(?P<kept>(?i:authorization){_QUOTED}[:=]{_QUOTED}(?i:bearer|basic|token)\s{{1,4}})[A-Za-z0-9._~+/=:-]{{8,}}",
    ),
    Shape("authorization", ("bearer",), rf"(?P<kept>{_START}(?i:bearer)\s{{1,4}})[A-Za-z0-9._~+/=-]{{20,}}"),
    Shape(
        "password",
        ("://",),
        r"""(?P<kept>://[^\s/:@"'<>\\]{0,256}:)[^\s/@"'<>\\]{1,256}(?=@)""",
    ),
)
"""Every shape that is known."""
