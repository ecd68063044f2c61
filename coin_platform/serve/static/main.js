// The monitor: what the feed and the API tell, twice to four times a second on the page.

import * as address from "./address.js";
import { Alerts, alertsOf } from "./alerts.js";
import { ask, repeat, sleep } from "./api.js";
import { Chart, History } from "./chart.js";
import { Detail } from "./detail.js";
import { byId, make, setAttribute, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { count, NONE, price as priceText } from "./format.js";
import { Gaps } from "./gaps.js";
import { Health } from "./health.js";
import * as keys from "./keys.js";
import { Prices } from "./prices.js";
import { Store } from "./store.js";
import { Tape } from "./tape.js";
import * as theme from "./theme.js";
import { now } from "./time.js";

const FRAME = 250; // ms between two looks at what changed: more would be unrest
const SILENT = 10_000; // ms without a frame: what is shown may be old
const API_OLD = 12_000; // ms without an answer: premium and health are not of now
const PAIRS_LISTED = 500; // proposals of the pair filter

const store = new Store();
const history = new History();
const chart = new Chart();
const health = new Health();
const gaps = new Gaps();
const alerts = new Alerts();
const tape = new Tape();
const detail = new Detail();
const prices = new Prices((base) => choose({ base }));

let filters = address.read(location.search);
let exchanges = []; // as the API lists them
let premium = { at: 0, rate: null, bases: new Map() };
let reported = { at: 0, components: [], cluster: null };
let apiFailure = { text: "", since: 0 };
let feed = null;
let order = []; // of the bases
const seeded = new Set(); // bases whose past was asked for
let flow = { at: Date.now(), records: 0, text: "" };
let shownState = { name: "", since: now() };

/** Change the filters, in the address too. */
function choose(change, { replace = false } = {}) {
  filters = { ...filters, ...change };
  const query = address.write(filters);
  history_(replace ? "replaceState" : "pushState", query || location.pathname);
  applied();
}

const history_ = (how, place) => globalThis.history[how](null, "", place);

function applied() {
  showFilters();
  feed?.want(address.feedQuery(filters, exchanges.map((exchange) => exchange.name)));
  render();
}

function showFilters() {
  for (const box of document.querySelectorAll("#exchange-filter input")) box.checked = filters.exchanges.includes(box.value);
  for (const box of document.querySelectorAll("#type-filter input")) box.checked = filters.types.includes(box.value);
  if (document.activeElement !== byId("pair")) byId("pair").value = filters.pairs.join(", ");
  byId("clear").disabled = !filters.exchanges.length && !filters.pairs.length && !filters.types.length;
}

function chips(fieldset, name, values) {
  for (const [value, title] of values) {
    const box = make("input", { type: "checkbox", name, value });
    fieldset.append(make("label", { class: "chip" }, box, title));
  }
}

const checked = (name) => [...document.querySelectorAll(`#filters input[name=${name}]:checked`)].map((box) => box.value);

function startFilters() {
  chips(byId("exchange-filter"), "exchange", exchanges.map((exchange) => [exchange.name, exchange.title]));
  chips(byId("type-filter"), "type", address.TYPES.map((type) => [type, type]));
  const form = byId("filters");
  form.addEventListener("change", (event) => {
    if (event.target.type === "checkbox") choose({ exchanges: checked("exchange"), types: checked("type") });
  });
  let typing;
  byId("pair").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => choose({ pairs: address.read(`?${new URLSearchParams({ pair: byId("pair").value })}`).pairs }, { replace: true }), 300);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    byId("pair").value = "";
    choose({ exchanges: [], pairs: [], types: [] });
  });
  addEventListener("popstate", () => {
    filters = address.read(location.search);
    applied();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input:not([type=checkbox])") || byId("key-dialog").open) return;
    event.preventDefault();
    byId("pair").focus();
  });
}

/** Return the bases that the filters want, each with its pairs by exchange and its premiums. */
function bases() {
  const found = new Map();
  for (const pair of store.pairs.values()) {
    if (!address.wants(filters, pair.exchange, pair.pair)) continue;
    if (!found.has(pair.base)) found.set(pair.base, { name: pair.base, pairs: new Map(), premiums: premiumsOf(pair.base) });
    const { pairs } = found.get(pair.base);
    pairs.set(pair.exchange, [...(pairs.get(pair.exchange) ?? []), pair]);
  }
  const unknown = [...found.keys()].filter((base) => !order.includes(base));
  if (unknown.length) order = [...order, ...unknown].filter((base) => found.has(base)).sort((one, other) => weight(found.get(other)) - weight(found.get(one)) || (one < other ? -1 : 1));
  return order.filter((base) => found.has(base)).map((base) => found.get(base));
}

/** Return where a base stands: what many exchanges trade comes first, then what is traded for most dollars. */
function weight({ name, pairs }) {
  let dollars = 0;
  for (const pair of [...pairs.values()].flat()) {
    const value = (pair.volume ?? 0) * (pair.last ?? 0);
    dollars += pair.quote === "KRW" ? (premium.rate ? value / premium.rate : 0) : value;
  }
  return name === "USDT" ? -1 : pairs.size * 1e15 + dollars; // the dollar itself comes last
}

function premiumsOf(base) {
  const known = now() - premium.at < API_OLD ? premium.bases.get(base) : undefined;
  const of = new Map((known?.prices ?? []).map((each) => [`${each.exchange}|${each.pair}`, each.premium]));
  const korean = (known?.prices ?? []).filter((each) => each.premium !== null && address.wants({ exchanges: filters.exchanges, pairs: [] }, each.exchange, null));
  const values = korean.map((each) => each.premium).sort((one, other) => one - other);
  const half = values.length >> 1;
  const middle = !values.length ? null : values.length % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
  return { of, middle, elsewhere: known?.elsewhere_usd ?? null };
}

function shownExchanges() {
  const seen = new Set([...store.pairs.values()].map((pair) => pair.exchange));
  for (const { kind, name } of reported.components) if (kind === "feed") seen.add(name.split("/")[1]);
  return exchanges.filter((exchange) => (filters.exchanges.length ? filters.exchanges.includes(exchange.name) : seen.has(exchange.name)));
}

/** Return how the feed is, as `{name, text}`: what is shown is of now only while it is `live`. */
function stateOf() {
  if (!feed || feed.state === "connecting") return { name: "connecting", text: feed?.reason ?? "" };
  if (feed.state === "reconnecting") {
    const seconds = Math.ceil((feed.retryAt - Date.now()) / 1000);
    return { name: "reconnecting", text: [feed.reason, seconds > 0 ? `next attempt in ${seconds} s` : ""].filter(Boolean).join("; ") };
  }
  const silent = Date.now() - feed.lastFrame;
  const server = feed.servers.find((each) => each.address === feed.address);
  const why = server && server.state !== "live" ? server.reason || `the server of the feed is ${server.state}` : "";
  const isNarrow = filters.exchanges.length || filters.pairs.length || filters.types.length;
  if (silent > SILENT) {
    const text = `nothing new ${isNarrow ? "of this filter " : ""}for ${Math.round(silent / 1000)} s`;
    return { name: "stale", text: why ? `${text}: ${why}` : text };
  }
  if (why) return { name: "degraded", text: why };
  if (apiFailure.text) return { name: "degraded", text: "the control API does not answer: premium and health are not of now" };
  if (reported.cluster?.state === "degraded") return { name: "degraded", text: `the cluster store: ${reported.cluster.reason}` };
  return { name: "live", text: flow.text };
}

function showState() {
  const state = stateOf();
  if (state.name !== shownState.name) {
    shownState = { name: state.name, since: now() };
    setText(byId("said"), `The feed is ${state.name}${state.name === "live" ? "" : `: ${state.text}`}`); // once for a screen reader
    document.title = state.name === "live" ? "coin_platform monitor" : `${state.name} – coin_platform monitor`;
  }
  setAttribute(byId("state"), "data-state", state.name);
  setAttribute(document.body, "data-state", state.name);
  setText(byId("state-word"), state.name);
  setText(byId("state-text"), state.text);
  return state;
}

function feedAlert(state) {
  const isBad = ["reconnecting", "stale", "degraded"].includes(state.name) && !(state.name === "degraded" && apiFailure.text);
  return { failure: isBad ? `${state.name}: ${state.text}` : "", level: state.name === "degraded" ? "warn" : "bad", since: shownState.since };
}

function countFlow() {
  const seconds = (Date.now() - flow.at) / 1000;
  if (seconds < 2) return;
  const rate = (store.records - flow.records) / seconds;
  flow = { at: Date.now(), records: store.records, text: "" };
  setText(byId("flow"), `${rate < 10 ? rate.toFixed(1) : count(rate)}/s`);
}

function render() {
  const state = showState();
  const time = now();
  const shown = bases();
  const base = shown.some((each) => each.name === filters.base) ? filters.base : shown[0]?.name ?? "";
  const isApiOld = time - premium.at > API_OLD;
  const view = {
    bases: shown, base, now: time, exchanges: shownExchanges(), rate: isApiOld ? null : premium.rate, left: store.left,
    isLive: state.name === "live" || state.name === "degraded",
    emptyText: store.pairs.size ? "No pair of the filter is known." : state.name === "live" ? "No price has come in the last two minutes." : "No price has come yet.",
  };
  prices.show(view);
  detail.show(view);
  if (base && !seeded.has(base)) seed(base);
  chart.show(base, view.exchanges.filter((exchange) => exchange.quote === "KRW"), history);
  setText(byId("rate"), isApiOld || premium.rate === null ? "not known" : `${priceText(premium.rate, "KRW")} KRW`);
  health.show({ ...reported, exchanges, isOld: time - reported.at > API_OLD, now: time });
  const lasting = gaps.show(filters, store.gaps.values(), time);
  alerts.show(alertsOf({ ...reported, gaps: lasting, holes: store.holes, api: { failure: apiFailure.text, since: apiFailure.since }, feed: feedAlert(state), now: time }), time);
  tape.show(filters, store.tape);
  const server = feed?.servers.find((each) => each.address === feed.address);
  setText(byId("rung"), (feed?.state === "open" && server?.rung) || NONE);
  setText(byId("clock"), new Date(time).toISOString().slice(11, 19));
  countFlow();
}

function listPairs() {
  const names = [...new Set([...store.pairs.values()].map((pair) => pair.pair))].sort().slice(0, PAIRS_LISTED);
  byId("pair-list").replaceChildren(...names.map((name) => make("option", { value: name })));
}

function answered() {
  apiFailure = { text: "", since: 0 };
}

function failed(error) {
  if (!apiFailure.text) apiFailure.since = now();
  apiFailure.text = String(error.message);
}

function takePremium(answer) {
  answered();
  if (premium.rate === null) order = []; // only now are volumes in won comparable
  premium = { at: now(), rate: answer.krw_per_usd, bases: new Map(answer.bases.map((base) => [base.base, base])) };
  history.take(Date.parse(answer.time) / 1000, answer.bases);
}

/** Begin the chart of a base with what the server remembers. */
async function seed(base) {
  seeded.add(base);
  try {
    history.seed(base, await ask(`/api/premium/${encodeURIComponent(base)}`));
  } catch (error) {
    failed(error);
    await sleep(5_000);
    seeded.delete(base); // it is tried again
  }
}

function takeComponents(answer) {
  answered();
  reported = { at: now(), components: answer.components, cluster: answer.cluster };
}

async function known(path) {
  for (;;) {
    try {
      return await ask(path);
    } catch (error) {
      failed(error);
      showState();
      await sleep(2_000);
    }
  }
}

async function start() {
  keys.start();
  theme.start(() => chart.redraw());
  exchanges = await known("/api/exchanges");
  answered();
  startFilters();
  showFilters();
  const query = address.feedQuery(filters, exchanges.map((exchange) => exchange.name));
  feed = new Feed(query, (bundle) => store.take(bundle), showState);
  feed.run();
  repeat("/api/premium", 2, takePremium, failed);
  repeat("/api/components", 4, takeComponents, failed);
  repeat("/ws/info", 5, (answer) => (feed.servers = answer.servers), failed);
  repeat(() => gaps.path(now()), 60, (answer) => gaps.take(answer), (error) => gaps.fail(error), { seconds: 35 });
  known("/health").then((answer) => setText(byId("version"), `coin_platform ${answer.version}`));
  setInterval(listPairs, 10_000);
  for (;;) {
    if (!document.hidden) render();
    else showState(); // the title says it
    await sleep(FRAME);
  }
}

start();
