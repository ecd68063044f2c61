// The key of this tab. It is kept in sessionStorage, and goes to this server and its feeds only.

import { byId } from "./dom.js";

const NAME = "coin.key";
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/; // what a subprotocol may consist of
let memory = null;

/** Return the key, or null. */
export function key() {
  try {
    return sessionStorage.getItem(NAME) ?? memory;
  } catch {
    return memory; // a browser may forbid storage
  }
}

function keep(text) {
  memory = text;
  try {
    if (text === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, text);
  } catch {
    // the key then lasts until the page is loaded again
  }
  byId("forget").hidden = text === null;
}

let asking = null;

/** Ask the user for a key, and wait for it. `reason` says why the last one was refused; empty at first. */
export function askForKey(reason) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    byId("key-error").textContent = reason;
    const submit = (event) => {
      event.preventDefault();
      const text = byId("key").value.trim();
      if (!TOKEN.test(text)) {
        byId("key-error").textContent = "A browser cannot send this key to the feed: it has / = , : or another such sign.";
        return;
      }
      byId("key-form").removeEventListener("submit", submit);
      byId("key").value = "";
      keep(text);
      asking = null;
      dialog.close();
      resolve();
    };
    byId("key-form").addEventListener("submit", submit);
    if (!dialog.open) dialog.showModal();
  });
  return asking;
}

/** Prepare the button that forgets the key. */
export function start() {
  byId("forget").hidden = key() === null;
  byId("key-dialog").addEventListener("cancel", (event) => event.preventDefault()); // nothing can be shown without it
  byId("forget").addEventListener("click", () => {
    keep(null);
    location.reload();
  });
}
