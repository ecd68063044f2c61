"""The guards of the API: names, sizes, rates, headers, and errors as problems."""

import json
from http import HTTPStatus
from pathlib import Path

import pytest

from coin_platform.serve.guards import MOST_BODY_BYTES, SECURITY_HEADERS
from coin_platform.serve.rates import RateLimiter, RateLimits
from tests.kit.serving import ADMIN_KEY, Served, key

OPEN = ("/health", "/ready", "/metrics", "/docs", "/openapi.json", "/api/exchanges", "/api/gaps")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("path", OPEN)
def test_every_public_address_answers_with_the_headers_that_keep_browsers_safe(served: Served, path: str) -> None:
    answer = served.ask("GET", path)
    assert answer.status_code == HTTPStatus.OK, answer.text
    assert SECURITY_HEADERS.items() <= dict(answer.headers).items() | {
        (name, answer.headers[name]) for name in SECURITY_HEADERS
    }
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8600"}, 200),
        ({"Host": "evil.test"}, 403),
        ({"Host": "127.0.0.1.evil.test"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost@evil.test"}, 403),
        ({"Host": "localhost/\\evil"}, 200),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8600"}, 200),
    ],
)
def test_D26_the_API_answers_under_its_own_names_only(served: Served, headers: dict[str, str], status: int) -> None:
    answer = served.ask("GET", "/health", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["type"] == "urn:coin:problem:foreign-name" and "COIN_SERVE_HOSTS" in answer.text
        assert "access-control-allow-origin" not in answer.headers


def test_the_page_of_the_documentation_loads_nothing_from_elsewhere(served: Served) -> None:
    page = served.ask("GET", "/docs").text
    assert "http" not in page and "<script>" not in page
    for part in ("/docs/style.css", "/docs/swagger-ui.js", "/docs/start.js"):
        assert part in page and served.ask("GET", part).status_code == HTTPStatus.OK


@pytest.mark.parametrize("path", ["/nothing", "/api//exchanges", "/api/..;/health", "/api/%2e%2e/health", "/health/"])
def test_an_unknown_address_is_a_problem_with_a_remedy(served: Served, path: str) -> None:
    answer = served.ask("GET", path)
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["remedy"] and answer.json()["status"] == 404


def test_a_wrong_method_is_a_problem(served: Served) -> None:
    answer = served.ask("POST", "/health", headers={"X-HTTP-Method-Override": "GET"})
    assert answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED and answer.json()["remedy"]


def test_a_large_body_is_refused_before_it_is_read_to_its_end(served: Served) -> None:
    answers = [
        served.ask("POST", "/health", content=b"x" * (MOST_BODY_BYTES + 1)),
        served.ask("POST", "/health", headers={"Content-Length": "9" * 30}, content=b"x"),
    ]
    assert {answer.status_code for answer in answers} == {HTTPStatus.REQUEST_ENTITY_TOO_LARGE}


def test_a_wrong_request_names_the_part_and_not_the_value(served: Served) -> None:
    answer = served.ask("GET", "/api/gaps", params={"from": "tomorrow-is-secret", "limit": 0})
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    body = answer.json()
    assert [fault["where"] for fault in body["errors"]] == ["query.from", "query.limit"]
    assert "secret" not in answer.text


def test_a_client_that_asks_too_often_is_told_to_wait(tmp_path: Path) -> None:
    served = Served(tmp_path, rates=RateLimits(reads_per_second=3, writes_per_second=1))
    answers = [served.ask("GET", "/health") for _ in range(50)]
    late = [answer for answer in answers if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS]
    assert late and {answer.headers["Retry-After"] for answer in late} == {"1"}
    assert all(json.loads(answer.text)["type"] == "urn:coin:problem:too-often" for answer in late)


def test_rates_refill_and_count_reads_and_writes_apart() -> None:
    time = [0.0]
    limiter = RateLimiter(RateLimits(reads_per_second=2, writes_per_second=1), clock=lambda: time[0])
    assert [limiter.take("a", is_write=False) for _ in range(3)] == [0, 0, 0.5]
    assert limiter.take("a", is_write=True) == limiter.take("b", is_write=False) == 0
    time[0] = 0.5
    assert [limiter.take("a", is_write=False) for _ in range(2)] == [0, 0.5]


def test_many_addresses_take_little_memory() -> None:
    limiter = RateLimiter()
    for number in range(30_000):
        limiter.take(f"address-{number}", is_write=False)
        limiter.wrong_key(f"address-{number}")
    assert len(limiter._buckets) == len(limiter._wrong_keys) == 10_000


def test_C1_an_address_with_many_wrong_keys_is_not_heard_for_a_minute() -> None:
    time = [0.0]
    limiter = RateLimiter(clock=lambda: time[0])
    for _ in range(5):
        assert limiter.blocked_seconds("a") == 0
        limiter.wrong_key("a")
    assert limiter.blocked_seconds("a") == 60 and limiter.blocked_seconds("b") == 0
    time[0] = 60.0
    assert limiter.blocked_seconds("a") == 0


def test_the_numbers_of_the_server_have_no_label_from_a_client(served: Served) -> None:
    served.ask("GET", "/health")
    served.ask("GET", "/" + "x" * 50)
    served.ask("BREW", "/health")
    text = served.ask("GET", "/metrics", headers=key(ADMIN_KEY)).text
    assert "xxx" not in text and "BREW" not in text
    assert 'coin_serve_answers_total{method="GET",route="/health",status="200"}' in text
