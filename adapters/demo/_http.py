"""A small HTTP/1.1 server on trio and h11: one handler, which may also misbehave on the wire on purpose."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import h11
import trio

_CHUNK = 65536


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """One request, whole; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer:
    """What a handler answers with. One that is not finished closes the connection where it stands."""

    def __init__(self, connection: h11.Connection, stream: trio.SocketStream) -> None:
        self._connection = connection
        self._stream = stream

    @property
    def peer(self) -> int:
        """The client's port: which of its connections this is."""
        port: int = self._stream.socket.getpeername()[1]
        return port

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status and the headers; without a ``content-length`` the body goes in chunks."""
        named = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send(h11.Response(status_code=status, headers=named))

    async def write(self, data: bytes) -> None:
        """Send a piece of the body at once."""
        await self._send(h11.Data(data=data))

    async def finish(self) -> None:
        """End the body."""
        await self._send(h11.EndOfMessage())

    async def whole(
        self, status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a complete answer."""
        length = {"content-type": content_type, "content-length": str(len(body))}
        await self.start(status, length | dict(headers or {}))
        await self.write(body)
        await self.finish()

    async def raw(self, data: bytes) -> None:
        """Put bytes on the wire as they are; the connection closes after them."""
        await self._stream.send_all(data)

    async def hung_up(self) -> None:
        """Wait until the client has closed the connection."""
        while await self._stream.receive_some(_CHUNK):
            pass

    async def _send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        if data := self._connection.send(event):
            await self._stream.send_all(data)


Handler = Callable[[HttpRequest, Answer], Awaitable[None]]


async def serve_http(handler: Handler, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve on a free port of 127.0.0.1 until cancelled; reports the server's address, ``http://127.0.0.1:<port>``."""

    async def converse(stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while request := await _read(connection, stream):
                await handler(request, Answer(connection, stream))
                if connection.our_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return  # the client went away, or does not speak HTTP: nobody is left to tell

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, converse, listeners)
        task_status.started(f"http://127.0.0.1:{port}")


async def _read(connection: h11.Connection, stream: trio.SocketStream) -> HttpRequest | None:
    """The next request, or None once the client is done."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        match event := connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(_CHUNK))
            case h11.Request():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage() if head is not None:
                return HttpRequest(
                    method=head.method.decode("ascii"),
                    path=head.target.decode("ascii"),
                    headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
                    body=bytes(body),
                )
            case _:
                return None
