"""Names of the events that `coin decode` shows."""

from coin_platform.commands.decode import event_name
from coin_platform.model import Control


def test_an_event_without_a_table_is_called_control() -> None:
    assert event_name(Control(name="pong")) == "control"
