r"""Redaction: secrets are taken out of what is to become history before it is stepped, hashed or written.

History is immutable, and whoever has a copy has all of it; so what must not be in it never enters it.
"""

import datetime as dt
import enum
import re
from collections.abc import Iterable, Mapping
from functools import cache, cached_property, lru_cache
from typing import Any, Literal, NamedTuple, NewType, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import replace

from ._codec import TooDeep
from ._errors import CallerError
from ._event import Event
from ._messages import Json
from ._needles import Needles, lowered
from ._shapes import SHAPES
from ._specs import AgentSpec

V = TypeVar("V", bound=msgspec.Struct)

SHORTEST = 8
"""Characters that a secret's value must have at least: a shorter one would be found in innocent text."""

_PASSES = 8
_KNOWN, _MOST = 8, 2**16  # of which values it is remembered that they hold nothing: so many, and how large
_ESCAPES = 16
_OPENING = "[redacted: "


class BadRedaction(CallerError):
    """What is to be redacted was said in a way that cannot work."""


class _Rule(NamedTuple):
    """What is looked for. Each match holds one of the `needles`, in lower case, if there are any; with `keeps`, the
    group ``kept`` of it stays. Needles have none but ASCII's characters, and none that JSON writes in another way."""

    pattern: re.Pattern[str]
    marker: str
    needles: frozenset[bytes] = frozenset()
    keeps: bool = False


_needles_of = lru_cache(8)(Needles)
"""Most that redact anything look for the same words."""


class Redaction:
    """What is taken out of everything before it becomes history, and replaced by a marker that names it.

    The known shapes of keys and tokens always are; `secrets` are values, by the names that their markers give, as
    ``{"DB_PASSWORD": os.environ["DB_PASSWORD"]}``; `patterns` are regular expressions of your own. A secret is found
    as it is, and as JSON writes it, at any depth of JSON in JSON; not in pieces, and in no other encoding.

    Redacting twice is redacting once, and text without a secret stays as it is, to the byte. The known shapes and the
    values take time linear in the text; what a pattern of yours takes is up to the pattern.

    Raises:
        BadRedaction: a value is too short to be told from other text, or a pattern is not a regular expression.
    """

    def __init__(self, *, patterns: Iterable[str] = (), secrets: Mapping[str, str] | None = None) -> None:
        # The longest first: one value may begin with another.
        named = sorted((secrets or {}).items(), key=lambda item: -len(item[1]))
        self._rules = (
            *(_of_value(name, value.strip()) for name, value in named),
            *(_of_pattern(pattern, f"pattern {number}") for number, pattern in enumerate(patterns, 1)),
            *_SHAPES,
        )
        self._always = any(not rule.needles for rule in self._rules)
        # A reply is looked through before the agent's code is asked about it, and once more in the event that it is;
        # an agent's definition with each loop, and whenever it is asked whether it has changed.
        self._reply_has_nothing = lru_cache(_KNOWN)(self._has_nothing)
        self._definition_has_nothing = lru_cache(_KNOWN)(self._has_nothing)

    @cached_property  # what only reads need not know them
    def _needles(self) -> Needles:
        return _needles_of(frozenset(needle for rule in self._rules for needle in rule.needles))

    @cached_property
    def _numeric(self) -> bool:
        """Whether a number may be a secret: Python does not write each as JSON does."""
        return any(_NUMBER.fullmatch(needle) for rule in self._rules for needle in rule.needles)

    @cached_property
    def _markers(self) -> re.Pattern[str]:
        return re.compile("|".join(sorted({re.escape(rule.marker) for rule in self._rules})))

    def holds_secret(self, text: str) -> bool:
        """Whether there is a secret in a text."""
        return self.text(text) != text

    def text(self, text: str) -> str:
        """The text with a marker in the place of each secret; the text itself if there is none."""
        if self._has_nothing(_utf8(text)):
            return text  # as nearly all are
        for _ in range(_PASSES):  # a marker ends a word, where a secret may begin that was part of a longer word before
            before, text = text, self._once(text)
            if "\\u" in text:
                plain = _LETTER.sub(_letter, text)
                found = self._once(plain)
                text = text if found == plain else found
            if text == before:
                return before
        return text

    def _has_nothing(self, text: bytes) -> bool:
        """Whether there is nothing in a text, or in what is written as JSON, to look at twice."""
        if self._always or (b"\\" in text and b"\\u" in text):
            return False
        return not self._needles.within(lowered(text))

    def json(self, value: Json) -> Json:
        """A JSON value redacted, keys and numbers too; the value itself if there is no secret in it.

        Raises:
            TooDeep: it nests deeper than the interpreter goes down.
        """
        try:
            return self._json(value)
        except RecursionError:
            raise TooDeep("A JSON value nests too deep.", hint="Make it flatter, or keep it as text.") from None

    def _json(self, value: Json) -> Json:
        if type(value) is str:  # as most are
            return self.text(value)
        match value:
            case msgspec.Struct():
                return self._struct(value)
            case enum.Enum() | bool():
                return value
            case str():
                return self.text(value)
            case int() | float():
                found = self.text(str(value))
                return value if found == str(value) else found
            case list() | tuple():
                items: list[Json] = []
                for item in value:  # in this very frame: documents nest deep
                    items.append(self._json(item))
                same = all(new is old for new, old in zip(items, value, strict=True))
                return value if same else type(value)(items)
            case Mapping():
                made: dict[str, Json] = {}
                for key, item in value.items():
                    new_key = self.text(key) if isinstance(key, str) else key
                    while new_key in made:  # two secrets, one marker: neither item may be lost
                        new_key += "'"
                    made[new_key] = self._json(item)
                same = all(
                    new_key == key and made[key] is item
                    for new_key, (key, item) in zip(made, value.items(), strict=True)
                )
                return value if same else made
            case None:
                return value
            case _:  # what code of the user's put there, and is written as msgspec would
                plain = msgspec.to_builtins(value, str_keys=True)
                redacted = self._json(plain)
                return value if redacted is plain else redacted

    def value(self, value: V) -> V:
        """An event or another value redacted; the value itself if there is no secret in it.

        Ids, digests, nonces and times are made here and hold no secrets: they stay, and so does what is bound to them.
        """
        # What an event brings may have been looked through before.
        return self._fields(value) if isinstance(value, Event) else self._struct(value)

    def _struct(self, value: V) -> V:
        """A value redacted. As nearly all hold nothing, it is first looked at as a whole, as JSON writes it."""
        written = None if self._numeric else _written(value)
        if written is None:
            return self._fields(value)
        known = self._definition_has_nothing if isinstance(value, AgentSpec) else self._reply_has_nothing
        has_nothing = known if len(written) < _MOST else self._has_nothing
        return value if has_nothing(written) else self._fields(value)

    def _fields(self, value: V) -> V:
        changes: dict[str, Json] = {}
        for name in _texts(type(value)):
            old = getattr(value, name)
            if not old or isinstance(old, int | float):
                continue
            new = self._struct(old) if isinstance(old, msgspec.Struct) else self._json(old)
            if new is not old:
                changes[name] = new
        return replace(value, **changes) if changes else value

    def _once(self, text: str) -> str:
        found = self._needles.within(lowered(_utf8(text)))
        if not found and not self._always:
            return text
        for rule in self._rules:
            if not rule.needles or not rule.needles.isdisjoint(found):
                text = self._apply(rule, text)
        return text

    def _apply(self, rule: _Rule, text: str) -> str:
        """Replace each match that does not begin within a marker, which is no text of anybody's."""
        markers = self._markers.finditer(text) if _OPENING in text else iter(())
        marker = next(markers, None)
        pieces: list[str] = []
        done = place = 0
        while match := rule.pattern.search(text, place):
            start, end = match.span()
            while marker is not None and marker.end() <= start:
                marker = next(markers, None)
            if marker is not None and marker.start() <= start:
                place = marker.end()
                continue
            if start < end:
                pieces += (text[done:start], match["kept"] if rule.keeps else "", rule.marker)
                done = end
            place = max(end, start + 1)
            if place > len(text):
                break
        return "".join((*pieces, text[done:])) if pieces else text


def _of_pattern(pattern: str, name: str) -> _Rule:
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadRedaction(
            f"{pattern!r} is not a regular expression: {error}.", hint="Patterns are those of Python's re."
        ) from error
    if compiled.search("") is not None:
        raise BadRedaction(
            f"The pattern {pattern!r} matches the empty text.", hint="Write one that matches nothing but secrets."
        )
    return _Rule(compiled, f"{_OPENING}{name}]")


def _of_value(name: str, value: str) -> _Rule:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name) is None:
        raise BadRedaction(f"{name!r} is not the name of a variable.", hint="Use letters, digits and '_'.")
    if len(value) < SHORTEST:
        raise BadRedaction(
            f"The value of {name} has fewer than {SHORTEST} characters: it would be found where it is no secret.",
            hint="Choose a longer secret, or describe it with a pattern that has something around it.",
        )
    if _OPENING in value:
        raise BadRedaction(
            f"The value of {name} holds what a marker begins with.", hint="Name what it was before it was redacted."
        )
    runs = re.findall(r"[A-Za-z0-9 _.-]+", value)
    longest = max(runs, key=len, default="").lower()
    return _Rule(re.compile(_as_json(value)), f"{_OPENING}${name}]", frozenset({longest.encode()} if longest else ()))


def _as_json(value: str) -> str:
    """A pattern for a text as it is, and as JSON writes it, at any depth of JSON in JSON.

    There is one way to read each run of backslashes, so that nothing is tried twice.
    """
    pieces: list[str] = []
    for slashes, char in re.findall(r"(\\*)([^\\]|\Z)", value, re.DOTALL):
        number = len(slashes)
        most = (number + 1) * _ESCAPES
        bare = rf"\\{{{number},{most}}}" if number else ""
        escaped = rf"\\{{{number + 1},{most}}}"
        units = [f"{unit:04x}" for unit in _units(char)]
        spelled = escaped + r"\\{1,16}".join(f"u(?i:{unit})" for unit in units)
        if not char:
            pieces.append(_at_the_end(number) if number else "")
        elif char in _SHORT:
            pieces.append(f"(?:{bare}{re.escape(char)}|{escaped}{_SHORT[char]}|{spelled})")
        elif char in ('"', "/"):
            pieces.append(rf"\\{{{number},{most}}}{re.escape(char)}")
        elif char < " " or char > "~":
            pieces.append(f"(?:{bare}{re.escape(char)}|{spelled})")
        else:
            pieces.append(bare + re.escape(char))
    return "".join(pieces)


def _at_the_end(number: int) -> str:
    """Backslashes that end a value. Those after them belong to what follows: at a depth where each is written as 2, 4
    or 8, a quote has 1, 3 or 7 at most."""
    ways = []
    for depth in range(5):
        after = "|".join(rf"\\{{{2**inner - 1}}}" for inner in range(depth + 1))
        ways.append(rf"\\{{{number * 2**depth}}}(?=(?:{after})(?!\\))")
    return f"(?:{'|'.join(ways)}|" + rf"\\{{{number},{(number + 1) * _ESCAPES}}})"


_SHORT = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


def _units(char: str) -> list[int]:
    """A character's units in UTF-16, which JSON's escapes are."""
    data = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[place : place + 2]) for place in range(0, len(data), 2)]


# What JSON need not escape, but may: a secret is no less of one for it.
_LETTER = re.compile(r"\\{1,16}u00([2-7][0-9A-Fa-f])")


def _letter(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return match[0] if char in '"\\\x7f' else char


_SHAPES = tuple(
    _Rule(
        re.compile(shape.pattern),
        f"{_OPENING}{shape.name}]",
        frozenset(needle.encode() for needle in shape.needles),
        "(?P<kept>" in shape.pattern,
    )
    for shape in SHAPES
)
_NUMBER = re.compile(rb"[0-9.e+-]+")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _written(value: msgspec.Struct) -> bytes | None:
    """All that a value says now; None if that cannot be written down."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        return None


@cache
def _texts(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a value that may hold text of others': all but ids, which have types of their own, and nonces."""
    hints = get_type_hints(kind)
    return tuple(name for name in kind.__struct_fields__ if name != "nonce" and not _is_ours(hints[name]))


def _is_ours(hint: Any) -> bool:
    one_of = (hint, *get_args(hint))
    return any(
        isinstance(part, NewType)
        or get_origin(part) is Literal
        or (isinstance(part, type) and issubclass(part, enum.Enum | dt.datetime))
        for part in one_of
    )
