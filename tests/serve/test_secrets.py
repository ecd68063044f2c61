"""C3: secrets appear in no answer and in no log of the server, whatever fails."""

import contextlib
import http.client
from pathlib import Path

import pytest

from coin_platform.settings import PREFIX, SECRETS
from infra.stack import free_ports
from tests.kit.served_process import running
from tests.kit.serving import ADMIN_KEY


def answers(port: int, key: str) -> str:
    """Return what the server says to many requests, right ones and wrong ones."""
    texts = []
    for method, path, body in (
        *(("GET", path, "") for path in ("/", "/health", "/ready", "/metrics", "/docs", "/openapi.json")),
        *(("GET", path, "") for path in ("/api/status", "/api/pairs/upbit", "/api/exchanges/upbit/markets")),
        ("GET", f"/api/gaps?key={key}&from={key}", ""),
        ("GET", "/api/gaps?exchange=upbit", ""),
        ("PUT", f"/api/pairs/{key}", f'{{"pairs": ["{key}"]}}'),
        ("POST", "/api/pairs/okx", f'{{"pairs": ["NEW-USDT"], "{key}": 1}}'),
        ("POST", "/api/pairs/okx", f'{{"{key}'),
    ):
        for sent_key in (key,) if "exchange=" in path else (key, key[:-1], None):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            headers = {"Content-Type": "application/json"} | (
                {"Authorization": f"Bearer {sent_key}"} if sent_key else {}
            )
            with contextlib.closing(connection):
                connection.request(method, path, body.encode(), headers)
                answer = connection.getresponse()
                texts.append(f"{answer.status} {answer.getheaders()} {answer.read().decode()}")
    return "\n".join(texts)


@pytest.mark.timeout(400)
def test_C3_no_secret_is_in_an_answer_or_in_the_log(tmp_path: Path) -> None:
    canaries = {name.upper(): f"canary-{number}-{'c' * 32}" for number, name in enumerate(sorted(SECRETS))}
    [dead_port] = free_ports(1)
    values = canaries | {
        "SERVE_KEYS": f"admin:{canaries['SERVE_KEYS']},read:{ADMIN_KEY}",
        "PROXY": f"http://user:{canaries['PROXY']}@127.0.0.1:{dead_port}",
        "LAKE_URL": "s3://lake/prefix",
        "S3_ENDPOINT": f"http://127.0.0.1:{dead_port}",
        "BROKER_URL": f"kafka://127.0.0.1:{dead_port}",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_USER": "coin",
        "LOG_LEVEL": "DEBUG",
    }
    values["REDIS_URL"] = f"redis://coin:{canaries['REDIS_URL']}@127.0.0.1:{dead_port}"
    with running(tmp_path, **values) as (port, process):
        said = answers(port, canaries["SERVE_KEYS"])
        process.terminate()
        process.wait(60)
    log = (tmp_path / "log").read_text()
    assert "401" in said and "503" in said, log
    for name, canary in canaries.items():
        assert canary not in said.replace(f"/api/pairs/{canary}", ""), f"{PREFIX}{name}"
        assert canary not in log, f"{PREFIX}{name}"
