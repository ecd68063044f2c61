// What is not as it should be, the longest first.

import { age } from "./format.js";
import { byId, make, Rows, setAttribute, setText } from "./dom.js";
import { glyph, level } from "./health.js";

const MOST_ROWS = 50;
const PASSING = ["connecting", "subscribing", "closing"]; // states that every feed passes through
const HOLE_FOR = 600_000; // ms for which a hole of the feed is shown
const PASSING_FOR = 15_000; // ms

/** Return the alerts: `{key, level, what, reason, since}`. */
export function alertsOf({ components, cluster, gaps, holes, api, feed, now }) {
  const alerts = [];
  if (cluster && cluster.state !== "good") alerts.push({ key: "store", level: "warn", what: `cluster store ${cluster.state}`, reason: cluster.reason, since: Date.parse(cluster.since) });
  for (const { name, kind, state, reason, since } of components) {
    const begin = Date.parse(since);
    const how = level(state);
    if (how === "good" || how === "other") continue;
    if (kind === "collector" && state === "degraded") continue; // its feeds say it
    if (PASSING.includes(state) && now - begin < PASSING_FOR) continue;
    alerts.push({ key: `component ${name}`, level: how, what: `${name} ${state}`, reason, since: begin });
  }
  for (const gap of gaps) {
    const what = `gap: ${gap.exchange} ${gap.channel} ${gap.pair ?? "all pairs"}`;
    alerts.push({ key: `${what} ${gap.from}`, level: "warn", what, reason: [gap.cause, gap.reason].filter(Boolean).join(": "), since: gap.from });
  }
  holes.forEach(({ what, reason, missed, since }, place) => {
    if (now - since > HOLE_FOR) return;
    alerts.push({ key: `hole ${place} ${since}`, level: "warn", what: `the feed left out ${missed ?? "some"} records of ${what}`, reason, since });
  });
  if (api.failure) alerts.push({ key: "api", level: "bad", what: "control API", reason: api.failure, since: api.since });
  if (feed.failure) alerts.push({ key: "feed", level: feed.level, what: "live feed", reason: feed.failure, since: feed.since });
  return alerts.sort((one, other) => (one.level === other.level ? one.since - other.since : one.level === "bad" ? -1 : 1));
}

export class Alerts {
  #rows = new Rows(byId("alert-list"), () => this.#row());

  show(alerts, now) {
    this.#rows.show(alerts.slice(0, MOST_ROWS).map((alert) => ({ ...alert, now })), (alert) => alert.key);
    byId("alerts-empty").hidden = alerts.length > 0;
    setText(byId("alert-count"), alerts.length > MOST_ROWS ? `${alerts.length}, ${MOST_ROWS} shown` : String(alerts.length));
    const worst = alerts.some((alert) => alert.level === "bad") ? "bad" : alerts.length ? "warn" : "good";
    setAttribute(byId("alert-count"), "data-level", worst);
  }

  #row() {
    const mark = make("span", { "aria-hidden": "true" });
    const what = make("b");
    const reason = make("small");
    const since = make("time");
    const element = make("li", {}, mark, make("span", {}, what, reason), since);
    const update = (alert) => {
      setText(mark, glyph(alert.level === "bad" ? "lost" : "stale"));
      setText(what, alert.what);
      setText(reason, alert.reason);
      setText(since, age((alert.now - alert.since) / 1000));
      setAttribute(element, "data-level", alert.level);
    };
    return { element, update };
  }
}
