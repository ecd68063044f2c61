// What is shown, as the address of the page says it: a link or a bookmark shows the same.

export const TYPES = ["ticker", "orderbook", "trade", "candle", "instrument", "gap"];
export const USUAL_TYPES = ["ticker", "orderbook", "gap"]; // when none is chosen
const MOST_VALUES = 50; // of one filter: more are easier served by the whole feed

const words = (query, name, change) =>
  [...new Set(query.getAll(name).flatMap((text) => text.split(/[\s,]+/)).map(change).filter(Boolean))].slice(0, MOST_VALUES);

/** Return the filters of a query such as `?exchange=upbit,okx&pair=BTC&type=ticker&base=BTC`. */
export function read(search) {
  const query = new URLSearchParams(search);
  return {
    exchanges: words(query, "exchange", (text) => text.toLowerCase()),
    pairs: words(query, "pair", (text) => text.toUpperCase()),
    types: words(query, "type", (text) => text.toLowerCase()).filter((text) => TYPES.includes(text)),
    base: (query.get("base") ?? "").slice(0, 64),
  };
}

/** Return the query of filters; empty without any. */
export function write({ exchanges, pairs, types, base }) {
  const query = new URLSearchParams();
  for (const [name, values] of [["exchange", exchanges], ["pair", pairs], ["type", types]]) {
    if (values.length) query.set(name, values.join(","));
  }
  if (base) query.set("base", base);
  const text = query.toString().replaceAll("%2C", ",");
  return text ? `?${text}` : "";
}

/** Return the query for the feed: what the filters want, as narrow as the feed can tell it. */
export function feedQuery({ exchanges, pairs, types }, known) {
  const query = new URLSearchParams({ conflate: "1", type: typesOf(types).join(",") });
  const named = exchanges.filter((name) => known.includes(name));
  if (named.length) query.set("exchange", named.join(","));
  if (pairs.length && pairs.every(isPair)) query.set("pair", pairs.join(","));
  return `?${query.toString().replaceAll("%2C", ",")}`;
}

const isPair = (text) => /^[A-Z0-9._]+-[A-Z0-9._]+$/.test(text); // not only a base

/** Return the types that are shown. */
export const typesOf = (types) => (types.length ? types : USUAL_TYPES);

/** Return whether the filters want a pair of an exchange. A filter without a hyphen is a base. */
export function wants({ exchanges, pairs }, exchange, pair) {
  if (exchanges.length && !exchanges.includes(exchange)) return false;
  if (!pairs.length || pair === null) return true;
  const upper = pair.toUpperCase();
  return pairs.some((text) => upper === text || (!text.includes("-") && upper.startsWith(`${text}-`)));
}
