"""A client of the real S3 server of the tests, and a proxy in front of it that misbehaves to order."""

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def s3_client(endpoint: str, *, read_timeout: float = 5) -> "S3Client":
    """Return a client that asks once, so that a test sees every answer."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=read_timeout,
            request_checksum_calculation="when_required",
        ),
    )


def scan_options(endpoint: str) -> dict[str, str]:
    """Return how polars reads from the server."""
    return {
        "aws_endpoint_url": endpoint,
        "aws_allow_http": "true",
        "aws_region": "us-east-1",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
    }


class Fault:
    """What the proxy does instead of passing on, before or `after` forwarding: a status, no answer, or half a body.

    `method` is one of HTTP, or LIST or RANGE for those GETs that list keys or want a part of an object.
    """

    def __init__(
        self,
        method: str,
        times: int = 1,
        *,
        status: int = 0,
        after: bool = False,
        cut: bool = False,
        silence: float = 0.0,
    ) -> None:
        self.method = method
        self.times = times
        self.status = status  # 0: close the connection without an answer
        self.after = after
        self.cut = cut
        self.silence = silence  # seconds in which nothing is said


class S3Proxy:
    """Forwards HTTP to `upstream`. `faults` are used up one by one; `strip` drops the conditions of every request."""

    def __init__(self, upstream: str) -> None:
        self.faults: list[Fault] = []
        self.strip = False
        self.requests: list[str] = []
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._upstream = upstream.removeprefix("http://")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "S3Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fault(self, method: str, special: str) -> Fault | None:
        """Take the next fault that is meant for a method, or for its special kind."""
        with self._lock:
            self.requests.append(method)
            for fault in self.faults:
                if fault.method in (method, special) and fault.times:
                    fault.times -= 1
                    return fault
        return None

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Return the upstream's answer."""
        if self.strip:
            headers = {name: value for name, value in headers.items() if not name.lower().startswith("if-")}
        connection = http.client.HTTPConnection(self._upstream, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


def _handler(proxy: S3Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            special = "LIST" if "list-type=" in self.path else "RANGE" if "Range" in self.headers else ""
            fault = proxy.fault(self.command, special)
            if fault is None or fault.after or fault.cut:
                status, answer, content = proxy.forward(self.command, self.path, headers, body)
            if fault is not None and not fault.cut:
                status, answer, content = fault.status, {}, b""
            if not status:
                proxy.ending.wait(fault.silence if fault else 0)
                self.close_connection = True
                return
            self.send_response_only(status)
            for name, value in answer.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = int(answer.get("Content-Length", 0)) if self.command == "HEAD" else len(content)
            self.send_header("Content-Length", str(length))
            if fault is not None:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault and fault.cut else content)
            self.close_connection = bool(fault)

        def log_message(self, *_: Any) -> None:
            """Say nothing: the tests look at `requests`."""

    serve: Callable[[Any], None] = Handler._serve
    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", serve)
    return Handler
