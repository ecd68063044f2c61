// One base: the premium of the Korean exchanges as a chart, and every pair of it as a row.

import { age, basisPoints, NONE, percent, price as priceText } from "./format.js";
import { byId, make, Rows, setAttribute, setText } from "./dom.js";
import { lastTime, price, spread } from "./store.js";

const COLUMNS = ["price", "bid", "ask", "spread", "usd", "premium", "change", "age"];
const WIDE = ["bid", "ask", "usd", "change"]; // not on a phone

export class Detail {
  #rows = new Rows(byId("detail-body"), (item) => this.#row(item));

  /** Show the base of `view`. */
  show(view) {
    const base = view.bases.find((each) => each.name === view.base);
    setText(byId("detail-title"), view.base ? `${view.base} premium` : "Premium");
    const elsewhere = base?.premiums.elsewhere ?? null;
    setText(byId("detail-note"), view.base ? `over ${priceText(elsewhere)} USD, the median elsewhere` : "");
    const items = [];
    for (const exchange of view.exchanges) {
      for (const pair of base?.pairs.get(exchange.name) ?? []) {
        items.push({ pair, exchange, premium: base.premiums.of.get(pair.name) ?? null, view });
      }
    }
    this.#rows.show(items, (item) => item.pair.name);
  }

  #row({ pair, exchange }) {
    const cells = Object.fromEntries(COLUMNS.map((name) => [name, make("td", { class: `n ${name}${WIDE.includes(name) ? " wide" : ""}` })]));
    const main = make("b");
    const below = make("small", { class: "narrow" });
    cells.price.append(main, below);
    const since = make("span");
    const stale = make("small");
    cells.age.append(since, " ", stale);
    const title = make("th", { scope: "row" }, exchange.title, " ", make("small", {}, pair.pair));
    const element = make("tr", {}, title, ...COLUMNS.map((name) => cells[name]));
    const update = ({ pair: now, premium, view }) => {
      const { value, isFresh } = price(now, view.now);
      const time = lastTime(now);
      const dollars = now.quote === "KRW" ? (view.rate ? value / view.rate : null) : value;
      const shown = value === null ? null : dollars;
      setAttribute(element, "data-age", isFresh ? null : "stale");
      setText(main, priceText(value, now.quote));
      setText(below, `${priceText(shown)} USD`);
      setText(cells.bid, priceText(now.bid, now.quote));
      setText(cells.ask, priceText(now.ask, now.quote));
      setText(cells.spread, basisPoints(spread(now, view.now)));
      setText(cells.usd, priceText(shown));
      setText(cells.premium, now.quote === "KRW" ? percent(premium) : "");
      setText(cells.change, percent(now.change));
      setAttribute(cells.change, "data-sign", now.change ? String(Math.sign(now.change)) : null);
      setText(since, time === null ? NONE : age((view.now - time) / 1000));
      setText(stale, isFresh ? "" : "stale");
    };
    return { element, update };
  }
}
