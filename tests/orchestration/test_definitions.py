"""What Dagster is given: the names, and which table is made of which."""

import dagster as dg

from coin_platform.model import Region
from coin_platform.orchestration.definitions import definitions
from coin_platform.settings import Settings

REGIONS = {"upbit": "korea", "okx": "asia", "kraken": "ne"}
CHANNELS = ("ticker", "orderbook", "trade", "candle", "instrument")
TABLES = (*(f"raw_{channel}" for channel in CHANNELS), *CHANNELS, "dead", "gap")


def test_the_names_that_users_see() -> None:
    defs = definitions(Settings(exchanges=tuple(REGIONS)))
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    keys = {asset.to_user_string() for asset in graph.get_all_asset_keys()}
    assert keys == {
        *(f"{region}/{name}/{table}" for name, region in REGIONS.items() for table in TABLES),
        *(f"exchange/{name}" for name in REGIONS),
        *(
            f"topic/{region}SocketDataIn-{t}/{name}"
            for name, region in REGIONS.items()
            for t in ("ticker", "Orderbook", "trade", "candle", "instrument")
        ),
    }
    repository = defs.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"}
    by_region = {f"{kind}_{region}" for kind in ("collect", "preprocess", "tables") for region in Region}
    assert jobs == {*by_region, "redrive_dead_letters", "forget_old_runs"}
    assert {schedule.name for schedule in repository.schedule_defs} == {"forget_old_runs_hourly"}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    assert sensors == {
        *(f"{kind}_{region}_watchdog" for kind in ("collect", "preprocess") for region in Region),
        *(f"close_windows_{region}" for region in Region),
        "bury_dead_runs",
        "observe",
        "check_alerts",
        "failure_alerts",
    }


def test_the_lineage_is_whole() -> None:
    graph = definitions(Settings(exchanges=("upbit",))).resolve_asset_graph()
    upstream = {
        asset.to_user_string(): {parent.to_user_string() for parent in graph.get(asset).parent_keys}
        for asset in graph.get_all_asset_keys()
    }
    assert upstream["topic/koreaSocketDataIn-ticker/upbit"] == {"exchange/upbit"}
    assert upstream["korea/upbit/raw_ticker"] == {"topic/koreaSocketDataIn-ticker/upbit"}
    assert upstream["korea/upbit/ticker"] == {"korea/upbit/raw_ticker"}
    assert upstream["korea/upbit/candle"] == {"korea/upbit/raw_candle"}
    raw = {f"korea/upbit/raw_{channel}" for channel in CHANNELS}
    assert upstream["korea/upbit/gap"] == raw
    assert upstream["korea/upbit/dead"] == raw | {f"korea/upbit/{channel}" for channel in CHANNELS}
