// The connection to the live feed: one server after the other, for as long as the page is open.

import { ask, sleep } from "./api.js";
import { key } from "./keys.js";

const FIRST_PAUSE = 200; // ms before another attempt: each doubles the one before
const LONGEST_PAUSE = 10_000;
const OPEN_WITHIN = 5_000; // ms for a handshake
const SILENT_FOR = 60_000; // ms after which a connection counts as dead: a browser cannot ping
const LONGEST_WISH = 60_000; // ms that a server may ask us to wait
const RETRY = /retry in (\d+(?:\.\d+)?) s/; // why a server closed, and when it wants us back

/** Return the addresses to try, in order. Behind a proxy with TLS the feed has the page's own address. */
export function candidates(servers, page) {
  const addresses = servers.filter((server) => server.state !== "lost").map((server) => server.address);
  if (page.protocol !== "https:") return addresses.filter((address) => address.startsWith("ws://"));
  return [...new Set([`wss://${page.host}/ws/exchange`, ...addresses.filter((address) => address.startsWith("wss://"))])];
}

export class Feed {
  state = "connecting"; // connecting, open or reconnecting
  reason = ""; // why it is not open
  address = ""; // of the server in use
  servers = []; // as /ws/info lists them, the best one first
  retryAt = 0; // Date.now() of the next attempt
  lastFrame = 0; // Date.now() of the last frame
  holes = 0; // in `seq`

  #query;
  #take;
  #changed;
  #stream = "";
  #seq = null;
  #waitingUntil = new Map(); // by address: the moment that its server named
  #isPlain = false; // the filters were refused: the page filters what comes
  #wake = () => {}; // ends a pause
  #close = () => {}; // ends the connection

  /** `take(bundle)` gets each frame, `changed()` is called when the state is another one. */
  constructor(query, take, changed) {
    this.#query = query;
    this.#take = take;
    this.#changed = changed;
  }

  /** Ask for other records from now on. */
  want(query) {
    if (query === this.#query) return;
    this.#query = query;
    this.#isPlain = false;
    this.#close(4001, "another filter");
    this.#wake();
  }

  /** Connect, and connect again, without end. */
  async run() {
    let pause = FIRST_PAUSE;
    for (;;) {
      await this.#learnServers();
      let opened = false;
      let tried = false;
      let again = false;
      for (const address of candidates(this.servers, location)) {
        if (Date.now() < (this.#waitingUntil.get(address) ?? 0)) continue;
        tried = true;
        const end = await this.#follow(address);
        opened ||= end.opened;
        again = end.code === 4001;
        const named = RETRY.exec(end.reason);
        if (named) this.#waitingUntil.set(address, Date.now() + Math.min(Number(named[1]) * 1000, LONGEST_WISH));
        this.reason = this.#why(end);
        if (end.opened) break; // the servers may have changed meanwhile
      }
      if (opened) pause = FIRST_PAUSE;
      else if (tried) this.#isPlain = !this.#isPlain; // perhaps too many filters are in use; the whole feed is always to be had
      if (!tried && !this.servers.length) this.reason ||= "no server of the feed reports";
      if (!again) await this.#wait(pause, tried);
      pause = opened ? FIRST_PAUSE : Math.min(2 * pause, LONGEST_PAUSE);
    }
  }

  async #learnServers() {
    try {
      this.servers = (await ask("/ws/info")).servers;
      this.#changed();
    } catch (error) {
      this.reason ||= `the control API does not answer: ${error.message}`; // the servers that are known are tried
    }
  }

  #why(end) {
    if (end.code === 4002) return `nothing came for ${SILENT_FOR / 1000} s`;
    if (end.code === 4003) return "a frame was missed";
    if (end.code === 1012) return "the server ends";
    if (end.opened) return end.reason || "the connection broke";
    return "the feed does not answer";
  }

  /** Wait for a random moment, or for the one that the server named. */
  async #wait(pause, tried) {
    const named = [...this.#waitingUntil.values()].filter((moment) => moment > Date.now());
    const wish = named.length && (!tried || named.length >= this.servers.length) ? Math.min(...named) : null;
    this.retryAt = wish ?? Date.now() + Math.random() * pause;
    this.#become("reconnecting");
    await Promise.race([sleep(Math.max(0, this.retryAt - Date.now())), new Promise((wake) => (this.#wake = wake))]);
  }

  /** Take frames of one server until its connection ends. Return how it ended. */
  #follow(address) {
    return new Promise((resolve) => {
      const text = key();
      const protocols = text === null ? [] : ["coin.feed", `coin.key.${text}`];
      const socket = new WebSocket(address + (this.#isPlain ? "?conflate=1" : this.#query), protocols);
      this.#seq = null;
      this.address = address;
      let opened = false;
      let closing = null;
      const close = (code, reason) => {
        closing ??= { opened, code, reason };
        socket.close(code, reason);
        done(); // a dead connection does not answer
      };
      this.#close = close;
      let timer = setTimeout(() => close(4004, "no handshake"), OPEN_WITHIN);
      const heard = () => {
        clearTimeout(timer);
        timer = setTimeout(() => close(4002, "silence"), SILENT_FOR);
      };
      const done = (event) => {
        clearTimeout(timer);
        socket.onopen = socket.onmessage = socket.onclose = null;
        this.#close = () => {};
        resolve(closing ?? { opened, code: event.code, reason: event.reason });
      };
      socket.onopen = () => {
        opened = true;
        heard();
      };
      socket.onmessage = (event) => {
        heard();
        this.#receive(event.data, () => close(4003, "a frame was missed"));
      };
      socket.onclose = done;
    });
  }

  #receive(text, giveUp) {
    let bundle;
    try {
      bundle = JSON.parse(text);
    } catch {
      this.holes += 1;
      giveUp();
      return;
    }
    const { stream, seq, snapshot = false } = bundle;
    const isAgain = snapshot && seq === this.#seq; // another part of it, or the state after the source has changed
    const follows = this.#seq !== null && stream === this.#stream && (seq === this.#seq + 1 || isAgain);
    if (this.#seq !== null && !follows) this.holes += 1;
    if (!follows && !snapshot) {
      giveUp(); // what is shown could be wrong: a new connection begins with a snapshot
      return;
    }
    this.#stream = stream;
    this.#seq = seq;
    this.lastFrame = Date.now();
    this.#take(bundle);
    this.reason = "";
    this.#become("open");
  }

  #become(state) {
    if (this.state === state && state === "open") return;
    this.state = state;
    this.#changed();
  }
}
