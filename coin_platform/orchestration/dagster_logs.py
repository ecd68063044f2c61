"""Lets the lines of Dagster and of its web server go where ours go, in the processes that run through our modules."""

import logging
import sys

import dagster as dg
import uvicorn.config
from dagster._core.execution import context_creation_job
from dagster._utils import log as dagster_log

from coin_platform.runtime.log_lines import name_process
from coin_platform.runtime.logs import adopt, set_up
from coin_platform.settings import load

LOGGERS = ("dagster", "dagster-webserver", "uvicorn", "uvicorn.error")
_CONFIGURERS = (  # modules that set up a log of their own
    *("dagster._daemon.controller", "dagster._cli.api", "dagster._cli.code_server", "dagster._cli.dev"),
    "dagster_webserver.cli",
)


def through_ours(component: str) -> None:
    """Set up the log of this process as of `component`, and keep Dagster and uvicorn from setting up their own.

    Lines below INFO, such as those of each event of a run, are left out: Dagster's UI has them.
    """
    set_up(load(), component)
    logging.captureWarnings(True)
    adopt(*LOGGERS)
    for module in (dagster_log, *(sys.modules[name] for name in _CONFIGURERS if name in sys.modules)):
        setattr(module, "configure_loggers", _configure)  # noqa: B010 - mypy knows the module of one of them
    setattr(context_creation_job, "default_system_loggers", _loggers_of_runs)  # noqa: B010
    uvicorn.config.LOGGING_CONFIG.update(handlers={}, loggers={})


def _configure(**_: object) -> None:
    adopt(*LOGGERS)


def _loggers_of_runs(_: object) -> list[tuple[dg.LoggerDefinition, dict[str, object]]]:
    return [(run_lines, {})]


@dg.logger
def run_lines(context: dg.InitLoggerContext) -> logging.Logger:
    """Return the logger of a run. From now on every line of this process names the run."""
    job = context.job_def
    name_process(component=job.name if job is not None else "run", run=context.run_id or "")
    lines = logging.Logger("dagster", logging.INFO)
    lines.parent = logging.getLogger()
    return lines
