// The gaps of today: those that the API lists, and newer ones of the feed.

import { age, NONE, timeOfDay, timeOf } from "./format.js";
import { byId, make, Rows, setText } from "./dom.js";
import { wants } from "./address.js";

const MOST_ROWS = 100;

const keyOf = (gap) => `${gap.exchange}|${gap.channel}|${gap.pair ?? ""}|${gap.from}`;

/** Return a gap of the API as the feed's are kept. */
const listed = (row) => ({ ...row, from: timeOf(row.from), to: timeOf(row.to), filledBy: row.filled_by });

/** Return the begin of the day, in UTC, in ms since 1970. */
export const midnight = (now) => Math.floor(now / 86_400_000) * 86_400_000;

export class Gaps {
  #rows = new Rows(byId("gaps-body"), (item) => this.#row(item));
  #listed = []; // as the API answered
  #unread = {};
  #failure = "";
  #isRead = false;

  /** Return where the API is to be asked: for the newest page of today. */
  path(now) {
    return `/api/gaps?from=${new Date(midnight(now)).toISOString()}&offset=${this.#start()}&limit=500`;
  }

  #total = 0;
  #start() {
    return Math.max(0, this.#total - 400);
  }

  take(answer) {
    this.#total = answer.total;
    this.#listed = answer.gaps.map(listed);
    this.#unread = answer.unread;
    this.#failure = "";
    this.#isRead = true;
  }

  fail(error) {
    this.#failure = error.message;
  }

  /** Show the gaps of today that the filters want. `live` are those of the feed. Return those that last. */
  show(filters, live, now) {
    const all = new Map(this.#listed.map((gap) => [keyOf(gap), gap]));
    for (const gap of live) if ((gap.to ?? now) >= midnight(now)) all.set(keyOf(gap), gap); // the feed is newer
    const wanted = [...all.values()].filter((gap) => wants(filters, gap.exchange, gap.pair)).sort((one, other) => other.from - one.from);
    this.#rows.show(wanted.slice(0, MOST_ROWS).map((gap) => ({ ...gap, now })), keyOf);
    const lasting = wanted.filter((gap) => gap.to === null);
    const isNarrow = filters.exchanges.length || filters.pairs.length;
    const number = isNarrow ? wanted.length : Math.max(wanted.length, this.#total); // of the API only a page is kept
    const words = [this.#isRead || number ? `${number} ${number === 1 ? "gap" : "gaps"}` : ""];
    if (lasting.length) words.push(`${lasting.length} ${lasting.length === 1 ? "lasts" : "last"}`);
    const unread = Object.keys(this.#unread);
    if (unread.length) words.push(`not read: ${unread.join(", ")}`);
    if (this.#failure) words.push(`the list could not be read: ${this.#failure}`);
    setText(byId("gaps-note"), words.filter(Boolean).join("; "));
    byId("gaps-empty").hidden = wanted.length > 0;
    setText(byId("gaps-empty"), this.#isRead ? "No gap since midnight UTC." : this.#failure ? "Not known." : "Not read yet.");
    return lasting;
  }

  #row(gap) {
    const filled = make("td");
    const lasted = make("td", { class: "n" });
    const cause = make("td", {}, gap.cause, make("small", {}, gap.reason ?? ""));
    const element = make("tr", {}, make("td", {}, timeOfDay(gap.from)), lasted, make("td", {}, gap.exchange), make("td", {}, gap.channel), make("td", {}, gap.pair ?? "all"), cause, filled);
    const update = (item) => {
      setText(lasted, item.to === null ? `${age((item.now - item.from) / 1000)}, lasts` : age((item.to - item.from) / 1000));
      setText(filled, item.filledBy || NONE);
      element.dataset.lasts = String(item.to === null);
    };
    return { element, update };
  }
}
