// The newest of each pair, as the feed told it. Its memory is bounded, however much comes.

import { facts, gap, hole, isOlder, keyOf, line, split } from "./records.js";
import { timeOf } from "./format.js";
import { now } from "./time.js";

export const STALE = 30_000; // ms: an older price is no price of now; the API has the same limit
const MOST_PAIRS = 5_000;
const MOST_GAPS = 500;
const MOST_HOLES = 20;
const MOST_LINES = 100; // of the tape
const QUOTED = ["ticker", "orderbook"];
const TAPED = ["trade", "candle", "instrument"];

export class Store {
  pairs = new Map(); // "exchange|pair": what is known of it
  gaps = new Map(); // by key
  holes = []; // what the feed could not read, the newest last
  tape = []; // the newest lines, the newest first
  records = 0; // that came
  left = 0; // pairs that had no room
  changed = new Set(); // keys of pairs since the last look

  #origins = new Map(); // by key: {epoch, offset}

  /** Take a frame of the feed. A snapshot replaces all: it is the state. */
  take(bundle) {
    if (bundle.snapshot && !(bundle.part > 1)) this.#forget();
    for (const record of bundle.records) {
      this.records += 1;
      const key = keyOf(record);
      if (record.type === "hole") this.#takeHole(record);
      else if (record.type === "gap") this.#takeGap(key, record);
      else if (TAPED.includes(record.type)) this.#takeLine(record);
      else if (!isOlder(record, this.#origins.get(key))) this.#takeQuote(key, record, bundle.snapshot === true);
    }
    if (bundle.snapshot) this.tape.sort((one, other) => other.time - one.time);
    this.tape.length = Math.min(this.tape.length, MOST_LINES);
  }

  #forget() {
    const before = this.pairs;
    this.pairs = new Map();
    this.#origins.clear();
    this.gaps.clear();
    this.tape = [];
    this.left = 0;
    this.changed = new Set(before.keys());
  }

  #takeQuote(key, record, isSnapshot) {
    if (!QUOTED.includes(record.type)) return; // a type of a newer server
    const name = `${record.exchange}|${record.pair}`;
    let pair = this.pairs.get(name);
    if (!pair) {
      if (this.pairs.size >= MOST_PAIRS) {
        this.left += 1;
        return;
      }
      const [base, quote] = split(String(record.pair));
      pair = { name, exchange: String(record.exchange), pair: String(record.pair), base, quote, bid: null, ask: null, last: null, change: null, volume: null, tickerTime: null, bookTime: null, step: 0 };
      this.pairs.set(name, pair);
    }
    const before = price(pair, now());
    Object.assign(pair, facts(record));
    const after = price(pair, now());
    const isComparable = !isSnapshot && before.value !== null && after.isFresh;
    if (isComparable && after.value !== before.value) pair.step = Math.sign(after.value - before.value);
    this.#origins.set(key, { epoch: record.epoch });
    this.changed.add(name);
  }

  #takeGap(key, record) {
    if (!this.gaps.has(key) && this.gaps.size >= MOST_GAPS) this.gaps.delete(this.gaps.keys().next().value);
    this.gaps.set(key, gap(record));
  }

  #takeHole(record) {
    this.holes.push({ ...hole(record), since: now() });
    if (this.holes.length > MOST_HOLES) this.holes.shift();
  }

  #takeLine(record) {
    const time = timeOf(record.received_time);
    this.tape.unshift({ number: this.records, time, exchange: record.exchange, pair: record.pair, type: record.type, text: line(record) });
    if (this.tape.length > 10 * MOST_LINES) this.tape.length = MOST_LINES; // of a large frame
  }
}

/** Return when a pair last had data, in ms since 1970; null if that is not known. */
export function lastTime(pair) {
  if (pair.tickerTime === null && pair.bookTime === null) return null;
  return Math.max(pair.tickerTime ?? 0, pair.bookTime ?? 0);
}

const isNew = (time, now) => time !== null && now - time <= STALE;

/**
 * Return the price of a pair as `{value, isFresh}`: the middle of a fresh book, else a fresh last price, as the API has it.
 * Where neither is fresh it is the newer one of both, and not a price of now.
 */
export function price(pair, now) {
  const middle = pair.bid !== null && pair.ask !== null ? (pair.bid + pair.ask) / 2 : null;
  if (middle !== null && isNew(pair.bookTime, now)) return { value: middle, isFresh: true };
  if (pair.last !== null && isNew(pair.tickerTime, now)) return { value: pair.last, isFresh: true };
  const isBook = middle !== null && (pair.last === null || (pair.bookTime ?? 0) >= (pair.tickerTime ?? 0));
  return { value: isBook ? middle : pair.last, isFresh: false };
}

/** Return the spread of a pair's book as a fraction of its middle; null where the book is not one of now. */
export function spread(pair, now) {
  if (pair.bid === null || pair.ask === null || !isNew(pair.bookTime, now)) return null;
  return (pair.ask - pair.bid) / ((pair.ask + pair.bid) / 2);
}
