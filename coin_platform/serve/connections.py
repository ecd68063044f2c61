"""One HTTP connection: a deadline for each request, one for a client that does not read, and a limit of connections.

uvicorn has no such deadlines: a client that sends one byte a second would hold its connection for ever.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import ClassVar, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from coin_platform.serve.guards import BODY_SECONDS
from coin_platform.serve.problems import problem

logger = logging.getLogger(__name__)


class ConnectionLimits(NamedTuple):
    """What one server, and one connection, may take."""

    most_connections: int = 500  # a process may open 1,024 files, and stores need some of them
    header_seconds: float = 10.0  # from the first byte of a request, or from the connection, to the end of its headers
    body_seconds: float = BODY_SECONDS + 5.0  # from there to the end of the body; before that, the application answers
    unread_seconds: float = 30.0  # for which a client may leave an answer unread


class LimitedConnection(H11Protocol):
    """A connection that ends when its client is too slow. A connection too many ends at once."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()
    _deadline: asyncio.TimerHandle | None = None  # of the request that comes in
    _awaited: type[h11.IDLE] | type[h11.SEND_BODY] = h11.IDLE  # whose deadline it is: headers, or a body
    _unread_deadline: asyncio.TimerHandle | None = None  # of the client that reads our answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it."""
        if len(self.connections) >= self.limits.most_connections:
            logger.warning("%d connections are open, one more is refused", len(self.connections))
            self.transport = transport
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-connections", "too many connections are open")
            return
        super().connection_made(transport)
        self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._set_deadline(None)
        self._forget_unread_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch_request()

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection, if it has come. uvicorn ends a connection that stays idle."""
        super().on_response_complete()
        if self.conn.their_state is not h11.IDLE:
            self._watch_request()

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever."""
        super().pause_writing()
        self._unread_deadline = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._forget_unread_deadline()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, also if its client has not read the last answer."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _watch_request(self) -> None:
        """Set the deadline of what must come next: the headers, or the body. A byte that comes does not move it."""
        state = self.conn.their_state
        if self.transport.is_closing() or state not in (h11.IDLE, h11.SEND_BODY):
            self._set_deadline(None)
        elif self._deadline is None or state is not self._awaited:
            end, seconds = self._end_of_headers, self.limits.header_seconds
            if state is h11.SEND_BODY:
                end, seconds = self._end_of_body, self.limits.body_seconds
            self._awaited = state
            self._set_deadline(self.loop.call_later(seconds, end))

    def _set_deadline(self, deadline: asyncio.TimerHandle | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = deadline

    def _forget_unread_deadline(self) -> None:
        if self._unread_deadline is not None:
            self._unread_deadline.cancel()
            self._unread_deadline = None

    def _end_of_headers(self) -> None:
        if not self.conn.trailing_data[0]:  # a browser opens connections before it needs them
            self.transport.close()
            return
        seconds = self.limits.header_seconds
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "slow-headers", f"the headers did not come within {seconds:g} s")

    def _end_of_body(self) -> None:
        self.transport.abort()  # the application has answered long ago

    def _refuse(self, status: HTTPStatus, kind: str, detail: str) -> None:
        """Answer a request that never came whole, and end the connection."""
        answer = problem(status, kind, detail, "send the request again", headers={"Connection": "close"})
        headers = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        self.transport.write(head + headers + b"\r\n" + bytes(answer.body))
        self.transport.close()
        self.loop.call_later(self.limits.unread_seconds, self.transport.abort)  # if the client does not read it
