// The matrix: a row for each base, a column for each exchange.

import { age, NONE, percent, price as priceText } from "./format.js";
import { byId, make, Rows, setAttribute, setText } from "./dom.js";
import { lastTime, price } from "./store.js";

const MOST_ROWS = 150;
const AGEING = 10_000; // ms: from here on the age is shown
const FLASH = { duration: 700, easing: "ease-out" };
const REGIONS = { korea: "Korea", asia: "Asia", ne: "North America and Europe" };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Prices {
  #rows = new Rows(byId("matrix-body"), (base) => this.#row(base));
  #exchanges = [];
  #select;

  /** `select(base)` is called when the user chooses a base. */
  constructor(select) {
    this.#select = select;
    byId("matrix-body").addEventListener("keydown", (event) => this.#move(event));
  }

  /** Show the pairs of `view`. */
  show(view) {
    this.#columns(view.exchanges);
    const { bases } = view;
    const shown = bases.slice(0, MOST_ROWS);
    this.#rows.show(shown.map((base) => ({ ...base, view })), (base) => base.name);
    byId("prices-empty").hidden = bases.length > 0;
    setText(byId("prices-empty"), view.emptyText);
    const more = [];
    if (bases.length > shown.length) more.push(`${shown.length} of ${bases.length} bases; the pair filter shows the others`);
    if (view.left) more.push(`${view.left} records of further pairs had no room`);
    setText(byId("prices-note"), more.join("; "));
  }

  #columns(exchanges) {
    const names = exchanges.map((exchange) => exchange.name);
    if (names.join() === this.#exchanges.map((exchange) => exchange.name).join()) return;
    this.#exchanges = exchanges;
    this.#rows.clear();
    const regions = make("tr", { class: "regions" }, make("td", { colspan: 2 }));
    for (const region of new Set(exchanges.map((exchange) => exchange.region))) {
      const columns = exchanges.filter((exchange) => exchange.region === region).length;
      const title = columns === 1 && region === "ne" ? "NA & EU" : REGIONS[region] ?? region;
      regions.append(make("th", { scope: "colgroup", colspan: columns }, title));
    }
    const titles = make("tr", {}, make("th", { scope: "col" }, "Base"), make("th", { scope: "col", class: "n" }, "Premium"));
    for (const { title, quote } of exchanges) titles.append(make("th", { scope: "col", class: "n" }, title, " ", make("small", {}, quote)));
    byId("matrix-head").replaceChildren(regions, titles);
  }

  #row({ name }) {
    const button = make("button", { type: "button", class: "base", "data-base": name }, name);
    button.addEventListener("click", () => this.#select(name));
    const premium = make("td", { class: "n premium" });
    const element = make("tr", { "data-base": name }, make("th", { scope: "row" }, button), premium);
    const cells = this.#exchanges.map(() => new Cell());
    element.append(...cells.map((cell) => cell.element));
    const update = ({ pairs, premiums, view }) => {
      const isChosen = view.base === name;
      setAttribute(element, "data-chosen", isChosen ? "" : null);
      setAttribute(button, "aria-pressed", String(isChosen));
      setAttribute(button, "tabindex", isChosen ? "0" : "-1");
      setText(premium, percent(premiums.middle));
      setAttribute(premium, "data-sign", premiums.middle === null ? null : String(Math.sign(Math.round(premiums.middle * 1e4))));
      this.#exchanges.forEach((exchange, place) => cells[place].show(pairs.get(exchange.name) ?? [], exchange, view));
    };
    return { element, update };
  }

  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches("button.base")) return;
    event.preventDefault();
    const buttons = [...byId("matrix-body").querySelectorAll("button.base")];
    const next = buttons[buttons.indexOf(event.target) + step];
    if (!next) return;
    next.focus();
    next.click();
  }
}

/** One price: in dollars above, in the pair's own quote below. */
class Cell {
  element = make("td", { class: "n cell" });
  #arrow = make("i", { "aria-hidden": "true" });
  #dollars = make("b");
  #own = make("small");
  #pair = null; // that was shown last
  #value = null;
  #wash = null; // the animation of the last change

  constructor() {
    this.element.append(make("span", {}, this.#arrow, this.#dollars), this.#own);
  }

  show(pairs, exchange, view) {
    const pair = pairs.find((each) => each.quote === exchange.quote) ?? pairs[0];
    if (!pair) {
      this.#empty();
      return;
    }
    const { value, isFresh } = price(pair, view.now);
    const old = view.now - (lastTime(pair) ?? 0);
    const dollars = pair.quote === "KRW" ? (view.rate ? value / view.rate : null) : value;
    setText(this.#dollars, value === null ? NONE : priceText(dollars));
    const own = priceText(value, pair.quote) + (pair.quote === exchange.quote ? "" : ` ${pair.quote}`);
    setText(this.#own, !isFresh ? `stale ${age(old / 1000)}` : old < AGEING ? own : `${age(old / 1000)} · ${own}`);
    setAttribute(this.element, "data-age", !isFresh ? "stale" : old < AGEING ? "new" : "ageing");
    const isOther = this.#pair !== pair.name;
    if (!isOther && isFresh && value !== this.#value) this.#flash(Math.sign(value - this.#value), view.isLive);
    if (isOther || !isFresh) this.#rest();
    this.#pair = pair.name;
    this.#value = value;
  }

  #rest() {
    this.#point(0);
    this.#wash?.cancel();
    this.#wash = null;
  }

  #point(direction) {
    setText(this.#arrow, { "1": "▲", "-1": "▼" }[direction] ?? "");
    setAttribute(this.element, "data-step", direction ? String(direction) : null);
  }

  #flash(direction, isLive) {
    this.#point(direction);
    if (!isLive || calm.matches) return;
    const colour = getComputedStyle(this.#arrow).color;
    this.#wash = this.element.animate([{ backgroundColor: colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.17)") }, { backgroundColor: "transparent" }], FLASH);
  }

  #empty() {
    setText(this.#dollars, "");
    setText(this.#own, "");
    this.#rest();
    setAttribute(this.element, "data-age", "none");
    this.#pair = null;
  }
}

