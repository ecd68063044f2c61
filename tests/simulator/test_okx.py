"""The simulated OKX: its two sockets, and books that do not change."""

from coin_platform.model import Channel, Refused
from tests.kit.venue_talk import Talk


def test_okx_refuses_candles_on_the_public_socket() -> None:
    talk = Talk("okx", Channel.CANDLE)
    talk.venue.path = "/ws/v5/public"
    [answer] = talk.subscribe()
    [event] = talk.decode(answer)
    assert isinstance(event, Refused)
    assert event.reason.startswith("60018: ")


def test_okx_keeps_a_book_alive_with_an_empty_change() -> None:
    talk = Talk("okx")
    talk.take(talk.subscribe())
    talk.venue.steps = 590
    empty = 0
    for _ in range(620):
        messages = talk.step()
        empty += sum('"asks":[],"bids":[]' in message.payload for message in messages)
        talk.take(messages)
    assert empty == 2
