"""Write the log of this process: one line an event, to stderr, for people or as JSON."""

import logging

from coin_platform.runtime.log_bursts import LimitedHandler
from coin_platform.runtime.log_lines import JsonLines, PlainLines, name_process
from coin_platform.runtime.secrets import Redactor
from coin_platform.settings import LogFormat, Settings


def set_up(settings: Settings, component: str, run: str = "") -> None:
    """Send the log of this process to stderr: our own from COIN_LOG_LEVEL upwards, that of libraries from WARNING.

    Every line says the component and, where there is one, the id of the Dagster run. It replaces what a former call
    or a library has set up for stderr.
    """
    name_process(component=component, run=run)
    lines = JsonLines if settings.log_format is LogFormat.JSON else PlainLines
    handler = LimitedHandler()
    handler.setFormatter(lines(Redactor.of(settings)))
    root = logging.getLogger()
    for former in list(root.handlers):
        if type(former) in (LimitedHandler, logging.StreamHandler):
            root.removeHandler(former)
            former.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("coin_platform").setLevel(settings.log_level)


def adopt(*names: str) -> None:
    """Send the lines of these loggers, from INFO upwards, where all lines of this process go."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.INFO)
