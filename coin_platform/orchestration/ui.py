"""Serves Dagster's UI under its own names only: `python -m coin_platform.orchestration.ui dev …` for `dagster dev …`.

Requests of foreign web pages are refused: see `coin_platform.runtime.own_names`.
"""

import sys
from collections.abc import Sequence
from typing import Any

import dagster_webserver.cli as webserver
from dagster._cli import dev

from coin_platform.orchestration.dagster_logs import through_ours
from coin_platform.runtime.own_names import OwnNames, refuse_with
from coin_platform.settings import PREFIX, load

MODULE = "coin_platform.orchestration.ui"
REFUSAL = f"the UI is not served under this name; {PREFIX}UI_HOSTS lists its names"


def _dev(arguments: Sequence[str]) -> None:
    """Run `dagster dev` with mended clocks, and let it start its webserver through this module."""
    from coin_platform.orchestration import dagster_clocks  # imported here: the webserver does not need it

    dagster_clocks.mend()
    through_ours("dagster dev")
    start = dagster_clocks.mended(dev.open_ipc_subprocess)  # type: ignore[attr-defined]

    def start_through_module(parts: Sequence[str], **options: Any) -> Any:
        words = ([MODULE, "webserver"] if part == "dagster_webserver" else [part] for part in parts)
        return start([word for part in words for word in part], **options)

    dev.open_ipc_subprocess = start_through_module  # type: ignore[attr-defined]
    dev.dev_command.main(arguments, prog_name="dagster dev")


def _webserver(arguments: Sequence[str]) -> None:
    """Run `dagster-webserver` with a check of the names before its application."""
    create_app = webserver.create_app_from_workspace_process_context  # type: ignore[attr-defined]

    def create_checked_app(*parts: Any, **options: Any) -> Any:
        app = create_app(*parts, **options)
        app.add_middleware(OwnNames, names=load().ui_hosts, refusal=refuse_with(REFUSAL))
        return app

    webserver.create_app_from_workspace_process_context = create_checked_app  # type: ignore[attr-defined]
    sys.argv = ["dagster-webserver", *arguments]
    through_ours("webserver")
    webserver.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    {"dev": _dev, "webserver": _webserver}[sys.argv[1]](sys.argv[2:])
