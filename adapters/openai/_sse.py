"""Server-sent events, decoded from bytes; a pure state machine.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""


class EventDecoder:
    """Collects bytes and gives back the data of each event that they complete.

    An event that the end of the stream cuts off is never given, as the standard demands. Names and ids of events are
    ignored: what arrives here says what it is in its data.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[str]:
        """The data of the events that these bytes complete.

        Raises:
            UnicodeDecodeError: an event is not UTF-8.
        """
        lines = (self._rest + received).splitlines(keepends=True)
        # A carriage return at the very end may be half of a line's end.
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        events: list[str] = []
        for line in lines:
            field, _, value = line.rstrip(b"\r\n").partition(b":")
            if not field and not value and line.strip() == b"":
                if self._data:
                    events.append(b"\n".join(self._data).decode())
                    self._data.clear()
            elif field == b"data":
                self._data.append(value.removeprefix(b" "))
        return events
