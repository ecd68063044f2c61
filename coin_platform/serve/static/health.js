// How feeds and services are, as they say of themselves.

import { age, count, NONE } from "./format.js";
import { byId, make, Rows, setAttribute, setText } from "./dom.js";

export const GOOD = ["live", "idle", "up", "good", "leading", "standby"];
const GLYPHS = { live: "●", up: "●", good: "●", leading: "●", standby: "○", idle: "○", stale: "◐", degraded: "◐", waiting: "◌", connecting: "◌", subscribing: "◌", closing: "◌" };
const ORDER = ["lost", "refused", "down", "cut off", "vanished", "stale", "degraded", "waiting", "connecting", "subscribing", "closing"]; // the worst first
const CHANNELS = ["ticker", "orderbook", "trade", "candle", "instrument"];
const SHORT = { orderbook: "book", instrument: "markets" };

const CALM = 10; // seconds: a younger frame is not worth a number

/** Return a cell: a sign, its word for a screen reader, and what is shown beside it. */
const feedCell = () => make("td", {}, make("i", { "aria-hidden": "true" }), make("span", { class: "hidden" }), make("span"));

const rank = (state) => (GOOD.includes(state) ? ORDER.length + 1 : (ORDER.indexOf(state) + ORDER.length + 1) % (ORDER.length + 1));

/** Return how good a state is: `good`, `warn` or `bad`. A state of a newer version is `other`. */
export function level(state) {
  if (GOOD.includes(state)) return "good";
  if (["lost", "refused", "down", "cut off", "vanished"].includes(state)) return "bad";
  return ORDER.includes(state) ? "warn" : "other";
}

export const glyph = (state) => GLYPHS[state] ?? (level(state) === "bad" ? "✕" : "·");

export class Health {
  #feeds = new Rows(byId("feeds-body"), (item) => this.#feedRow(item));
  #services = new Rows(byId("services-body"), (item) => this.#serviceRow(item));

  constructor() {
    const titles = CHANNELS.map((channel) => make("th", { scope: "col" }, SHORT[channel] ?? channel));
    byId("feeds-head").append(make("tr", {}, make("th", { scope: "col" }, "Exchange"), ...titles));
  }

  /** Show `components`, as the API answered them, at the time `now`. */
  show({ components, cluster, exchanges, isOld, now }) {
    const feeds = new Map(); // exchange -> channel -> components
    for (const component of components) {
      if (component.kind !== "feed") continue;
      const [, exchange, channel] = component.name.split("/");
      if (!feeds.has(exchange)) feeds.set(exchange, new Map());
      const channels = feeds.get(exchange);
      channels.set(channel, [...(channels.get(channel) ?? []), component]);
    }
    const known = exchanges.filter((exchange) => feeds.has(exchange.name));
    this.#feeds.show(known.map((exchange) => ({ exchange, channels: feeds.get(exchange.name), now })), (item) => item.exchange.name);
    byId("feeds-empty").hidden = feeds.size > 0;
    const all = components.filter((component) => component.kind === "feed");
    const good = all.filter((component) => GOOD.includes(component.state)).length;
    setText(byId("feeds-note"), isOld ? "not current" : all.length ? `${good} of ${all.length} are good` : "");
    const services = components.filter((component) => !["feed", "partition"].includes(component.kind));
    const store = cluster ? [{ name: "cluster store", ...cluster, state: cluster.state }] : [];
    this.#services.show([...store, ...services].slice(0, 100).map((service, place) => ({ ...service, now, key: `${service.name} ${place}` })), (item) => item.key);
  }

  #feedRow({ exchange }) {
    const cells = new Map(CHANNELS.map((channel) => [channel, feedCell()]));
    const element = make("tr", {}, make("th", { scope: "row" }, exchange.title), ...cells.values());
    const update = ({ channels, now }) => {
      for (const [channel, cell] of cells) this.#feedCell(cell, channels.get(channel), now);
    };
    return { element, update };
  }

  #feedCell(cell, feeds, now) {
    if (!feeds) {
      setText(cell.firstChild, NONE);
      setText(cell.lastChild, "");
      setText(cell.children[1], "");
      setAttribute(cell, "data-level", null);
      setAttribute(cell, "title", null);
      return;
    }
    const worst = feeds.reduce((one, other) => (rank(other.state) < rank(one.state) ? other : one));
    const ages = feeds.filter((feed) => feed.numbers.age_seconds !== undefined).map((feed) => feed.numbers.age_seconds + (now - Date.parse(feed.time)) / 1000);
    const isGood = GOOD.includes(worst.state);
    const oldest = ages.length ? Math.max(...ages) : null;
    const word = isGood ? (oldest === null || oldest < CALM ? "" : age(oldest)) : worst.state;
    setText(cell.firstChild, glyph(worst.state));
    setText(cell.lastChild, word);
    setText(cell.children[1], `${worst.state} `);
    setAttribute(cell, "data-level", level(worst.state));
    const pairs = feeds.reduce((sum, feed) => sum + (feed.numbers.pairs_confirmed ?? 0), 0);
    setAttribute(cell, "title", [worst.state, worst.reason, `${count(pairs)} pairs confirmed`, oldest === null ? "" : `last frame ${age(oldest)} ago`].filter(Boolean).join("; "));
  }

  #serviceRow({ name }) {
    const title = make("th", { scope: "row" }, name);
    const reason = make("small");
    const state = make("td");
    const mark = make("i", { "aria-hidden": "true" });
    const word = make("span");
    state.append(mark, word, reason);
    const since = make("td", { class: "n" });
    const element = make("tr", {}, title, state, since);
    const update = (service) => {
      setText(mark, glyph(service.state));
      setText(word, service.state);
      setText(reason, service.reason ?? "");
      setAttribute(state, "data-level", level(service.state));
      setText(since, age((service.now - Date.parse(service.since)) / 1000));
    };
    return { element, update };
  }
}
