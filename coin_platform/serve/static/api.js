// Requests to the control API: with the key, with a time limit, again and again.

import { askForKey, key } from "./keys.js";
import { learn } from "./time.js";

/** Return the answer to a request, as JSON. Raises an error whose message says what is wrong. */
export async function ask(path, { seconds = 8 } = {}) {
  for (;;) {
    const used = key();
    const headers = used === null ? {} : { Authorization: `Bearer ${used}` };
    const began = Date.now();
    const signal = AbortSignal.timeout(seconds * 1000);
    const answer = await fetch(path, { headers, signal, cache: "no-store", credentials: "omit", redirect: "error" });
    const body = await answer.json();
    if (answer.ok) {
      if (body.time) learn(Date.parse(body.time), began, Date.now());
      return body;
    }
    if (answer.status !== 401 && answer.status !== 403) throw new Error(String(body.detail ?? `answer ${answer.status}`));
    await askForKey(used === null ? "" : String(body.detail ?? "this key is refused"));
  }
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Ask for a path every so many seconds, without end. `take` gets the answers, `fail` what went wrong. */
export async function repeat(path, seconds, take, fail, options) {
  for (;;) {
    try {
      take(await ask(typeof path === "function" ? path() : path, options));
    } catch (error) {
      fail(error);
    }
    await sleep(seconds * 1000 * (0.9 + 0.2 * Math.random())); // many pages must not ask at the same moment
  }
}
