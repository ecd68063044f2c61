"""Settings that do not go together are named, each with what to write instead."""

from typing import Any

import pytest

from coin_platform.doctor.checks import State
from coin_platform.doctor.contradictions import contradictions
from coin_platform.model import Pair
from coin_platform.settings import Mode, Security, Settings

FAR = "kafka://kafka.example.org:9092"


@pytest.mark.parametrize(
    ("values", "text", "remedy"),
    [
        ({"kafka_replication": 3}, "COIN_KAFKA_REPLICATION has no effect", "remove COIN_KAFKA_REPLICATION"),
        ({"s3_endpoint": "https://s3.example.org"}, "COIN_S3_ENDPOINT has no effect", "remove COIN_S3_ENDPOINT"),
        ({"exchanges_mode": Mode.SIMULATED, "proxy": "http://p:1"}, "COIN_PROXY has no effect", "remove COIN_PROXY"),
        ({"broker_url": FAR}, "lost with the broker", "write 3"),
        ({"landing_min_interval": 4000}, "longer than COIN_WINDOW", "at most 3600"),
        (
            {"exchanges": ("upbit", "okx"), "pairs": (Pair("BTC", "KRW"),)},
            "no pair that okx trades in USDT",
            "BTC-USDT",
        ),
        (
            {"lake_url": "s3://lake", "s3_endpoint": "http://s3.example.org"},
            "COIN_S3_ENDPOINT=http://s3.example.org: the lake can be read",
            "https",
        ),
        (
            {
                "broker_url": FAR,
                "kafka_replication": 3,
                "kafka_user": "u",
                "kafka_password": "p",
                "kafka_security_protocol": Security.SASL_PLAINTEXT,
            },
            "SASL_PLAINTEXT: what goes to Kafka can be read",
            "SASL_SSL",
        ),
    ],
)
def test_a_contradiction_is_a_warning_with_its_remedy(values: dict[str, Any], text: str, remedy: str) -> None:
    [finding] = contradictions(Settings(**values))
    assert finding.state is State.WARNING
    assert text in finding.text and remedy in finding.remedy


def test_settings_that_leave_nothing_to_collect_are_wrong() -> None:
    first, *_ = contradictions(Settings(exchanges=("upbitt",)))
    assert first.state is State.WRONG and "COIN_EXCHANGES=upbitt" in first.text


def test_the_defaults_and_services_on_this_machine_go_together() -> None:
    assert list(contradictions(Settings())) == []
    local = Settings(broker_url="kafka://127.0.0.1:9092", lake_url="s3://lake", s3_endpoint="http://127.0.0.1:8333")
    assert list(contradictions(local)) == []
