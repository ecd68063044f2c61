// The chart of the premium: a line for each Korean exchange. Points are bounded, and a hole is a hole.

import { byId, make, setText } from "./dom.js";
import { percent } from "./format.js";

const MOST_POINTS = 4_000; // of a base: two hours of a point every 10 s from the server, and then one every 2 s
const MOST_BASES = 100; // the first ones: 100 take 25 MB at most
const HOLE = 25; // seconds without a point: the line breaks
const STEPS = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]; // of the axis: whole hundredths of a per cent
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3]]; // lines differ by more than colour

/** The premiums that came, by base. */
export class History {
  #times = new Map();
  #values = new Map(); // by base: exchange -> premiums

  /** Take what /api/premium answered at `time`, in seconds since 1970. */
  take(time, bases) {
    for (const { base, prices } of bases.slice(0, MOST_BASES)) {
      const korean = prices.filter((each) => each.pair.endsWith("-KRW"));
      if (korean.length) this.#add(base, time, new Map(korean.map((each) => [each.exchange, each.premium])));
    }
  }

  /** Put what /api/premium/{base} answered before the points that are known. */
  seed(base, { times, premiums }) {
    const first = this.#times.get(base)?.[0] ?? Infinity;
    const known = { times: this.#times.get(base) ?? [], lines: this.#values.get(base) ?? new Map() };
    if (!this.#times.has(base) && this.#times.size >= MOST_BASES) return;
    this.#times.set(base, []);
    this.#values.set(base, new Map());
    times.forEach((time, place) => {
      if (time < first) this.#add(base, time, new Map(Object.entries(premiums).map(([name, values]) => [name, values[place]])));
    });
    known.times.forEach((time, place) => {
      this.#add(base, time, new Map([...known.lines].map(([name, values]) => [name, values[place]])));
    });
  }

  /** Return the points of a base: `{times, lines}`, where `lines` has the premiums of each exchange. */
  of(base) {
    return { times: this.#times.get(base) ?? [], lines: this.#values.get(base) ?? new Map() };
  }

  #add(base, time, premiums) {
    if (!this.#times.has(base)) {
      if (this.#times.size >= MOST_BASES) return;
      this.#times.set(base, []);
      this.#values.set(base, new Map());
    }
    const times = this.#times.get(base);
    const lines = this.#values.get(base);
    if (times.length && time <= times.at(-1)) return;
    if (times.length && time - times.at(-1) > HOLE) this.#push(times, lines, times.at(-1) + 1, new Map());
    this.#push(times, lines, time, premiums);
  }

  #push(times, lines, time, premiums) {
    for (const name of premiums.keys()) if (!lines.has(name)) lines.set(name, new Array(times.length).fill(null));
    times.push(time);
    for (const [name, values] of lines) values.push(premiums.get(name) ?? null);
    if (times.length > MOST_POINTS) {
      times.shift();
      for (const values of lines.values()) values.shift();
    }
  }
}

export class Chart {
  #box = byId("chart");
  #plot = null;
  #shape = ""; // base and exchanges of the plot
  #titles = new Map();

  constructor() {
    new ResizeObserver(() => this.#resize()).observe(this.#box);
  }

  /** Draw anew, in the colours of now. */
  redraw() {
    this.#shape = "";
  }

  /** Show the premium of a base on these exchanges. */
  show(base, exchanges, history) {
    const { times, lines } = history.of(base);
    const shown = exchanges.filter((exchange) => lines.has(exchange.name));
    const shape = `${base}|${shown.map((exchange) => exchange.name).join()}`;
    if (shape !== this.#shape) this.#begin(shape, shown);
    const data = [times, ...shown.map((exchange) => lines.get(exchange.name))];
    this.#plot.setData(data);
    const texts = shown.map((exchange) => [exchange, lines.get(exchange.name).at(-1) ?? null]);
    for (const [exchange, premium] of texts) setText(this.#titles.get(exchange.name), percent(premium));
    const now = texts.map(([exchange, premium]) => `${exchange.title} ${percent(premium)}`).join(", ");
    setText(byId("chart-text"), `Premium of ${base || "no base"} over the median elsewhere: ${now || "not known yet"}. ${times.length} points.`);
    this.#box.dataset.points = String(times.length);
  }

  #begin(shape, shown) {
    this.#plot?.destroy();
    this.#shape = shape;
    this.#titles.clear();
    const swatches = [];
    byId("legend").replaceChildren(
      ...shown.map((exchange, place) => {
        const value = make("b");
        const swatch = make("span", { class: `swatch line-${place % 4}`, "aria-hidden": "true" });
        swatches.push(swatch);
        this.#titles.set(exchange.name, value);
        return make("li", {}, swatch, exchange.title, " ", value);
      }),
    );
    const colours = swatches.map((swatch) => getComputedStyle(swatch).color);
    const style = getComputedStyle(this.#box);
    const axis = { stroke: style.color, font: `11px ${style.fontFamily}`, ticks: { show: false }, grid: { stroke: style.borderTopColor, width: 1 } };
    const series = shown.map((exchange, place) => ({
      label: exchange.title, stroke: colours[place], width: 1.75, dash: DASHES[place % 4], spanGaps: false, points: { show: false },
    }));
    this.#plot = new globalThis.uPlot(
      {
        ...this.#size(),
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        tzDate: (seconds) => globalThis.uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        scales: { y: { range: (_, low, high) => around(low, high) } },
        axes: [
          { ...axis, space: 70, size: 26, values: [[3600, "{HH}:{mm}", ...Array(6).fill(null), 1], [60, "{HH}:{mm}", ...Array(6).fill(null), 1], [1, "{HH}:{mm}:{ss}", ...Array(6).fill(null), 1]] },
          { ...axis, size: 62, space: 34, incrs: STEPS, values: (_, ticks) => ticks.map((tick) => percent(tick)) },
        ],
        series: [{}, ...series],
      },
      [[], ...shown.map(() => [])],
      this.#box,
    );
  }

  #size() {
    return { width: Math.max(200, this.#box.clientWidth), height: Math.max(120, this.#box.clientHeight) };
  }

  #resize() {
    this.#plot?.setSize(this.#size());
  }
}

/** Return the range of the axis: never so narrow that noise looks like a move. */
function around(low, high) {
  if (low === null || high === null) return [-0.01, 0.01];
  const room = Math.max((high - low) * 0.15, 0.0005);
  return [low - room, high + room];
}
