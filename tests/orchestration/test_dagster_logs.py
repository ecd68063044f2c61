"""The lines of Dagster, of its runs and of its web server go where ours go, in the form of ours."""

import json
import os
import subprocess
import sys

PROGRAM = """
import logging, threading
import dagster as dg
import uvicorn
from dagster._daemon import controller
from coin_platform.orchestration.dagster_logs import through_ours

through_ours("daemon")
controller.configure_loggers(handler="default", formatter="colored", log_level="INFO")  # as the daemon does
logging.getLogger("dagster.daemon.SensorDaemon").info("a tick")
logging.getLogger("coin_platform.orchestration.alerts").error("an alert")
uvicorn.Config(lambda: None, log_level="warning")
logging.getLogger("uvicorn.error").warning("a peer is gone")

@dg.op
def work(context):
    context.log.info("op works, password=hunter2")
    logging.getLogger("coin_platform.x").warning("our line")

@dg.op
def fails(context):
    raise ValueError("broken")

@dg.job
def succeeds_job():
    work()

@dg.job
def fails_job():
    fails()

succeeds_job.execute_in_process()
fails_job.execute_in_process(raise_on_error=False)
"""


def test_C3_lines_of_dagster_and_uvicorn_are_json_with_component_and_run_and_without_secrets() -> None:
    environment = {**os.environ, "COIN_LOG_FORMAT": "json"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    bodies = [json.loads(line) for line in done.stderr.splitlines()]
    by_text = {body["message"].split(" - ")[-1]: body for body in bodies}
    for text in ("a tick", "an alert", "a peer is gone"):
        assert by_text[text]["component"] == "daemon"
    works, ours = by_text["op works, password=***"], by_text["our line"]
    assert works["component"] == ours["component"] == "succeeds_job"
    assert works["run"] == ours["run"] and len(works["run"]) == 36
    [failure] = [body for body in bodies if "STEP_FAILURE" in body["message"]]
    assert failure["component"] == "fails_job" and "ValueError: broken" in failure["more"]
    assert not any("RUN_START" in body["message"] for body in bodies), "Dagster's UI has the events"
    assert done.stdout == ""
