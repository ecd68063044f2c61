"""Serve the metrics of a process to Prometheus, on 127.0.0.1."""

import contextlib
import logging
from collections.abc import Iterator

from prometheus_client import REGISTRY, Gauge, start_http_server
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

MEMORY_BYTES = Gauge("coin_memory_bytes", "resident memory of this process")


@contextlib.contextmanager
def metrics_served(port: int, *collectors: Collector) -> Iterator[None]:
    """Serve the metrics while the block runs. Port 0: do nothing.

    `collectors` give metrics beside those that the process keeps anyway. Where the port is taken, warn and go on:
    records matter more.
    """
    if not port:
        yield
        return
    for collector in collectors:
        REGISTRY.register(collector)
    serving = None
    try:
        serving = start_http_server(port, "127.0.0.1")
    except OSError as error:
        text = "no metrics: COIN_METRICS_PORT=%d cannot be listened on: %s; give each process a port"
        logger.warning(text, port, error)
    try:
        yield
    finally:
        for collector in collectors:
            REGISTRY.unregister(collector)
        if serving is not None:
            server, thread = serving
            server.shutdown()
            server.server_close()
            thread.join()
