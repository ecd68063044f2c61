"""How pairs are written and read."""

import pytest

from coin_platform.errors import UnknownPair
from coin_platform.model import Kind, Pair


@pytest.mark.parametrize("text", ["BTCKRW", "", "-", "BTC-", "B/C-KRW", "BTC-KR W"])
def test_a_text_that_is_no_pair_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(UnknownPair, match="BASE-QUOTE"):
        Pair.parse(text)


def test_a_name_in_lower_case_means_the_name_in_upper_case() -> None:
    assert Pair.parse(" btc-krw ") == Pair("BTC", "KRW")
    assert Pair.parse("NVDAx-USD") == Pair("NVDAx", "USD")


def test_only_frames_carry_words_of_an_exchange() -> None:
    assert {kind for kind in Kind if kind.is_frame} == {Kind.SOCKET, Kind.REST}
