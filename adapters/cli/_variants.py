"""Reading what is to be tried: a TOML file with a table for each variant."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from caesura.continuations import CallerError, Variant


class BadVariants(CallerError):
    """The file of variants cannot be read, or says something that makes no sense."""


_HOW = """Each is a table: [terse], and in it, say, instructions = "Be brief."; 'caesura try --help' tells more."""


def read_variants(file: Path) -> list[Variant]:
    """The variants that a file names, in its order.

    Raises:
        BadVariants: it cannot be read, or is not what it should be.
        BadVariant: one cannot be tried.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadVariants(f"{file} cannot be read: {error.strerror}.", hint="Name a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadVariants(f"{file} is not TOML: {error}.", hint=_HOW) from error
    if not tables:
        raise BadVariants(f"{file} names no variants.", hint=_HOW)
    return [_variant(file, name, table) for name, table in tables.items()]


def _variant(file: Path, name: str, table: Any) -> Variant:
    if not isinstance(table, dict):
        raise BadVariants(f"{file}: {name} is no table.", hint=_HOW)
    known = [field for field in Variant.__struct_fields__ if field != "name"]
    odd = next((key for key in table if key not in known), None)
    if odd is not None:
        raise BadVariants(f"{file}: {name} has {odd!r}.", hint=f"There are: {', '.join(known)}.")
    try:
        return msgspec.convert({**table, "name": name}, Variant, str_keys=True)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, CallerError):
            raise error.__cause__ from None
        raise BadVariants(f"{file}: {name}: {error}.", hint=_HOW) from error
