"""Prices in one currency, and the premium that Korean exchanges pay."""

import polars as pl

from coin_platform.exchanges import EXCHANGES


def prices(tickers: pl.DataFrame) -> pl.DataFrame:
    """Return `exchange`, `base`, `time` and `price` in dollars of every ticker, by time.

    `tickers` has the columns `exchange`, `pair`, `received_time` and `last` (in the pair's quote currency).
    Prices in won are divided by the same exchange's last USDT-KRW price before them. Without one they are left out.
    """
    rows = tickers.sort("received_time")
    split = pl.col("pair").str.split_exact("-", 1).struct.rename_fields(["base", "quote"]).alias("parts")
    rows = rows.with_columns(split).unnest("parts").drop_nulls("last")
    won = rows.filter(pl.col("quote") == "KRW")
    rate = won.filter(pl.col("base") == "USDT").select("exchange", "received_time", rate="last")
    won = won.join_asof(rate, on="received_time", by="exchange", check_sortedness=False).drop_nulls("rate")
    dollars = [
        rows.filter(pl.col("quote") != "KRW").with_columns(price="last"),
        won.filter(pl.col("base") != "USDT").with_columns(price=pl.col("last") / pl.col("rate")).drop("rate"),
    ]
    return pl.concat(dollars).select("exchange", "base", time="received_time", price="price").sort("time")


def premium(prices: pl.DataFrame) -> pl.DataFrame:
    """Return the median `price` of each `base` by Korean `exchange`, that of others (`elsewhere`), and `premium`."""
    middle = prices.group_by("exchange", "base").agg(pl.col("price").median())
    is_korean = pl.col("exchange").is_in([name for name, exchange in EXCHANGES.items() if exchange.quote == "KRW"])
    elsewhere = middle.filter(~is_korean).group_by("base").agg(elsewhere=pl.col("price").median())
    both = middle.filter(is_korean).join(elsewhere, on="base")
    return both.with_columns(premium=pl.col("price") / pl.col("elsewhere") - 1).sort("base", "exchange")
