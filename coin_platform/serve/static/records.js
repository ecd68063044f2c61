// What the records of the feed say, as far as the page shows it. See docs/feed.md and docs/fields.md.

import { timeOf } from "./format.js";

const number = (value) => {
  if (value === null || value === undefined || value === "") return null;
  const found = Number(value); // tickers carry the exchange's own text
  return Number.isFinite(found) ? found : null;
};
const word = (value) => (value === null || value === undefined ? "" : String(value).slice(0, 300));

/** Return the key of what a record tells the state of. */
export const keyOf = (record) =>
  record.type === "gap"
    ? `gap|${record.exchange}|${record.channel}|${record.pair ?? ""}|${record.from}`
    : `${record.type}|${record.exchange}|${record.pair}`;

/** Return whether a record is older than a known one of the same key: the rule of the server. */
export function isOlder(record, known) {
  if (!known || record.type === "gap") return false;
  return record.redriven === true || record.epoch < known.epoch;
}

/** Return the pair's base and quote; a base may have hyphens. */
export function split(pair) {
  const place = pair.lastIndexOf("-");
  return [pair.slice(0, place), pair.slice(place + 1)];
}

/** Return what a ticker, an order book or a trade says of its pair. */
export function facts(record) {
  const time = timeOf(record.received_time);
  if (record.type === "ticker") {
    const data = record.data?.[0] ?? {};
    return { last: number(data.trade_price), change: number(data.signed_change_rate), volume: number(data.acc_trade_volume_24h), tickerTime: time };
  }
  return { bid: number(record.highest_bid), ask: number(record.lowest_ask), bookTime: time };
}

/** Return a gap as the page lists it. */
export const gap = (record) => ({
  exchange: word(record.exchange),
  channel: word(record.channel),
  pair: record.pair === null ? null : word(record.pair),
  from: timeOf(record.from),
  to: timeOf(record.to),
  cause: word(record.cause),
  reason: word(record.reason),
  filledBy: word(record.filled_by),
});

/** Return what the live feed alone is missing. */
export const hole = (record) => ({
  what: `${word(record.exchange)} ${word(record.channel)}`,
  reason: word(record.reason),
  missed: number(record.missed_records),
});

/** Return what a trade, a candle or a market says, in one line. */
export function line(record) {
  switch (record.type) {
    case "trade":
      return `${word(record.side)} ${word(record.size)} at ${word(record.price)}`;
    case "candle":
      return `${record.is_closed ? "closed" : "open"} ${word(record.open)} → ${word(record.close)}, low ${word(record.low)}, high ${word(record.high)}`;
    default:
      return `${word(record.change)} ${word(record.state)} ${word(record.exchange_state)}`.trim();
  }
}
