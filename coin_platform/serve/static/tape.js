// The newest trades, candles and markets, if the filter of types asks for them.

import { byId, make, Rows } from "./dom.js";
import { timeOfDay } from "./format.js";
import { typesOf, wants } from "./address.js";

const TAPED = ["trade", "candle", "instrument"];
const MOST_ROWS = 40;

export class Tape {
  #rows = new Rows(byId("tape-body"), (line) => {
    const cells = [timeOfDay(line.time), line.exchange, line.pair, line.type, line.text];
    return { element: make("tr", {}, ...cells.map((text) => make("td", {}, String(text)))), update() {} };
  });

  show(filters, lines) {
    const types = typesOf(filters.types).filter((type) => TAPED.includes(type));
    byId("tape").hidden = types.length === 0;
    const wanted = lines.filter((line) => types.includes(line.type) && wants(filters, line.exchange, line.pair));
    this.#rows.show(wanted.slice(0, MOST_ROWS), (line) => line.number);
  }
}
