"""How each exchange spells its pairs, and texts that are no symbols of it."""

import pytest

from coin_platform.errors import DecodeError, UnknownPair
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.binance import QUOTES
from coin_platform.model import Channel, Pair, Ticker
from tests.kit.recordings import frames, say

SYMBOLS = [
    ("upbit", "KRW-BTC", "BTC-KRW"),
    ("upbit", "BTC-ETH", "ETH-BTC"),  # the quote comes first
    ("bithumb", "KRW-USDT", "USDT-KRW"),
    ("bithumb", "BTC-ETH", "ETH-BTC"),
    ("coinone", "KRW/BTC", "BTC-KRW"),
    ("korbit", "btc_krw", "BTC-KRW"),
    ("okx", "1INCH-USDT", "1INCH-USDT"),
    ("bybit", "XUSDUSDT", "XUSD-USDT"),
    ("bybit", "BTCRLUSD", "BTC-RLUSD"),
    ("gateio", "BTC_USDT", "BTC-USDT"),
    ("gateio", "BTC3L_USDT", "BTC3L-USDT"),
    ("binance", "BTCUSDT", "BTC-USDT"),
    ("binance", "USDTTRY", "USDT-TRY"),
    ("binance", "FDUSDUSDT", "FDUSD-USDT"),
    ("binance", "BTCU", "BTC-U"),
    ("binance", "EURIEUR", "EURI-EUR"),
    ("binance", "币安人生USDT", "币安人生-USDT"),
    ("kraken", "ETH/BTC", "ETH-BTC"),
    ("coinbase", "BTC-USD", "BTC-USD"),
    ("coinbase", "1INCH-GBP", "1INCH-GBP"),
]
OTHER_SPELLINGS = [
    ("coinone", "krw/btc", "BTC-KRW"),
    ("kraken", "XBT/USD", "BTC-USD"),  # of its older interfaces
    ("kraken", "XBTUSDT", "BTC-USDT"),
    ("kraken", "XDGUSD", "DOGE-USD"),
]
NO_SYMBOLS = {
    "upbit": ["BTC"],
    "okx": ["BTC-USDT-SWAP", ""],
    "bybit": ["spot", "btcusdt", "USDT", "NOTASYMBOL", ""],
    "gateio": ["BTC-USDT", "BTCUSDT", "1m_BTC_USDT", "_USDT", ""],
    "binance": ["BTCXYZ", "USDT", "BTC-USDT", "btcusdt", ""],
    "kraken": ["FOO"],
    "coinbase": ["BTCUSD", "BTC_USD", "BTC-USD-PERP", "-USD", ""],
}


@pytest.mark.parametrize(("exchange", "symbol", "pair"), SYMBOLS)
def test_symbols_read_both_ways(exchange: str, symbol: str, pair: str) -> None:
    assert (EXCHANGES[exchange].pair(symbol), EXCHANGES[exchange].symbol(Pair.read(pair))) == (Pair.read(pair), symbol)


@pytest.mark.parametrize(("exchange", "symbol", "pair"), OTHER_SPELLINGS)
def test_other_spellings_are_read(exchange: str, symbol: str, pair: str) -> None:
    assert EXCHANGES[exchange].pair(symbol) == Pair.read(pair)


@pytest.mark.parametrize(
    ("exchange", "text"), [(exchange, text) for exchange, texts in NO_SYMBOLS.items() for text in texts]
)
def test_what_is_no_symbol_is_no_pair_and_its_ticker_a_dead_letter(exchange: str, text: str) -> None:
    adapter = EXCHANGES[exchange]
    with pytest.raises(UnknownPair):
        adapter.pair(text)
    frame = frames(exchange, "ticker")[0]
    [ticker] = adapter.decode(frame)
    assert isinstance(ticker, Ticker)
    symbol = f'"{adapter.symbol(ticker.pair)}"'.encode()
    assert symbol in frame.payload
    with pytest.raises(DecodeError):
        say(exchange, Channel.TICKER, frame.payload.replace(symbol, f'"{text}"'.encode()))


def test_symbols_of_binance_can_be_cut_in_one_way_only() -> None:
    assert [(quote, other) for quote in QUOTES for other in QUOTES if quote != other and quote.endswith(other)] == []
