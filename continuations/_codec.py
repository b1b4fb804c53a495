"""The codec: continuations to and from the bytes of their files. Unknown fields and newer formats are refused."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from ._errors import CallerError, SavedStateError
from ._ids import is_call_id
from ._json import MAX_NESTING, brackets, nests_deeper
from ._messages import Assistant, Json, Message, plain_text
from ._specs import AgentSpec
from ._state import FORMAT, Continuation, Record
from ._text import one_line

V = TypeVar("V", bound=msgspec.Struct)


class NewerFormat(SavedStateError):
    """The loop was written by a later version of Caesura."""


class Unreadable(SavedStateError):
    """A file of a commit is not what the format says it is."""


class TooDeep(CallerError):
    """A value nests too deep to be written."""


class WrongType(CallerError, TypeError):
    """What was given is of another type than what belongs there: bytes in the place of a text, say."""


class _Version(msgspec.Struct):
    format: int


_encoder = msgspec.json.Encoder()
_version = msgspec.json.Decoder(_Version)
_record = msgspec.json.Decoder(Record)
_definition = msgspec.json.Decoder(AgentSpec)
_message: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_ELSEWHERE = dict.fromkeys(set(Continuation.__struct_fields__) - set(Record.__struct_fields__), msgspec.UNSET)
"""What of a continuation has files of its own: unset, it is left out of its record."""
_BYTES = (bytes, bytearray, memoryview)  # which JSON would have as a text of other signs
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_NO_CONTENT = b'"content": ""'


def encode_record(state: Continuation) -> bytes:
    """The bytes of ``continuation.json``."""
    return _pretty(replace(state, **_ELSEWHERE))


def encode_definition(definition: AgentSpec) -> bytes:
    """The bytes of ``agent.json``."""
    return _pretty(definition)


def encode_message(message: Message) -> bytes:
    """The bytes of one message's file."""
    content = message.content
    if not isinstance(content, str):
        return _pretty(message)
    # A long text is not searched for what is to be indented. Of the fields that may hold more, none is before it.
    before, empty, after = _pretty(replace(message, content="")).partition(_NO_CONTENT)
    return b"".join((before, empty[:-2], _encoder.encode(content), after))


def decode_record(data: bytes) -> Record:
    """Read ``continuation.json``.

    Raises:
        NewerFormat: it has a later format than this code reads.
        Unreadable: it is not a record of that format.
    """
    version: int = _decode(_version, data, "continuation.json").format
    if version > FORMAT:
        raise NewerFormat(
            f"This loop is in format {version}; this Caesura reads up to format {FORMAT}.",
            hint="Upgrade Caesura: pip install --upgrade caesura.",
        )
    if version < 1:
        raise Unreadable(
            f"continuation.json says format {version}, which never was.",
            hint="Resume an earlier commit of the loop: 'caesura fork <commit>'.",
        )
    record: Record = _decode(_record, data, "continuation.json")
    ids = [call.id for call in record.calls] + ([record.gate.id] if record.gate is not None else [])
    # They become names of branches and folders, and words of commands to paste.
    if len(set(ids)) < len(ids) or not all(map(is_call_id, ids)):
        raise _unreadable("continuation.json", "its calls do not each have an id of their own that can be a name")
    # What a later format added has a default that means what earlier ones meant; the next step is written as this one.
    return replace(record, format=FORMAT)


def decode_definition(data: bytes) -> AgentSpec:
    """Read ``agent.json``.

    Raises:
        Unreadable: it is not an agent's definition.
    """
    definition: AgentSpec = _decode(_definition, data, "agent.json")
    return definition


def decode_message(data: bytes, name: str) -> Message:
    """Read the file of one message; `name` is its path, for the error.

    Raises:
        Unreadable: it is not a message.
    """
    try:
        message = _message.decode(data)
    except _UNDECODABLE as error:
        raise _unreadable(name, str(error)) from error
    if _can_nest(message):
        _check_depth(data, message, name)
    return message


def decode_messages(files: Sequence[bytes], first: int, path: Callable[[int], str]) -> list[Message]:
    """`decode_message`, of many files in less time; `path` is asked by their numbers, which go from `first` on.

    Raises:
        Unreadable: one of them is not a message.
    """
    messages = _together(files)
    if messages is None:  # what is wrong, and with which of them, is told by that one alone
        return [decode_message(file, path(number)) for number, file in enumerate(files, first)]
    for place, message in enumerate(messages):
        if _can_nest(message):
            _check_depth(files[place], message, path(first + place))
    return messages


def _together(files: Sequence[bytes]) -> list[Message] | None:
    """The messages that are in some files, if each file holds one, and ends as all do that are written here."""
    # They are read as one text, in which each begins with a brace, after a brace and a line's end. These stand neither
    # in a string, which no line's end may be in, nor within an object or a list, where a comma would be between: so
    # no message goes on from one file to the next, and if there are as many of them as files, each file holds one.
    if all(file.startswith(b"{") and file.endswith(b"}\n") for file in files):
        with suppress(*_UNDECODABLE):
            messages = _message.decode_lines(b"".join(files))
            return messages if len(messages) == len(files) else None
    return None


def _can_nest(message: Message) -> bool:
    return isinstance(message, Assistant) and bool(message.native)  # all else in a message is flat


def encodable(value: V) -> V:
    """The value itself, or, if text in it holds what UTF-8 refuses, the value with that replaced as `plain_text` does.

    Models, command lines and file names bring halves of surrogate pairs; no file and no commit can hold them.

    Raises:
        TooDeep: JSON in it nests deeper than `MAX_NESTING`.
        WrongType: something in it is of another type than the value's own says.
    """
    _check_types(value)
    try:
        data = _encoder.encode(value)
    except RecursionError:
        _check_nesting(value)
        raise
    except UnicodeEncodeError:
        _check_nesting(value)
        return msgspec.convert(_plain(msgspec.to_builtins(value)), type(value))
    if brackets(data) > MAX_NESTING:
        _check_nesting(value)
    return value


def _check_types(value: msgspec.Struct) -> None:
    """Written as it is, a value of another type would be read as something else, or not at all."""
    try:
        with suppress(RecursionError):
            msgspec.convert(msgspec.to_builtins(value, builtin_types=_BYTES), type(value))
    except (msgspec.ValidationError, TypeError) as error:
        what = str(error)
        raise WrongType(
            f"What was given cannot be kept: {what[0].lower()}{what[1:]}.",
            hint="Give a text as a str: what is in bytes becomes one by .decode().",
        ) from error


def _check_nesting(value: object) -> None:
    if nests_deeper(value):
        raise TooDeep(f"A JSON value nests more than {MAX_NESTING} deep.", hint="Make it flatter, or keep it as text.")


def _plain(value: Json) -> Json:
    match value:
        case str():
            return plain_text(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case _:
            return value


def _pretty(value: msgspec.Struct) -> bytes:
    # Indented, one line a field: `git show`, `git diff` and `git blame` work by lines.
    return msgspec.json.format(_encoder.encode(value), indent=2) + b"\n"


def _decode(decoder: Any, data: bytes, name: str) -> Any:
    try:
        decoded = decoder.decode(data)
    except _UNDECODABLE as error:
        raise _unreadable(name, str(error)) from error
    _check_depth(data, decoded, name)
    return decoded


def _check_depth(data: bytes, decoded: object, name: str) -> None:
    # What was written is no deeper than this, itself included; a reader must not find out what its stack can bear.
    most = MAX_NESTING + 10
    if brackets(data) > most and nests_deeper(decoded, most):
        raise _unreadable(name, f"it nests more than {MAX_NESTING} deep")


def _unreadable(name: str, why: str) -> Unreadable:
    return Unreadable(
        f"{name} cannot be read: {one_line(why, 300)}.",
        hint="The commit is damaged or was not written by Caesura; fork an earlier one.",
    )
