// Dark or light: as the system, or as the button says.

import { byId } from "./dom.js";

const NAME = "coin.theme";
const THEMES = { auto: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };

function stored() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}

/** Prepare the button; call `changed` whenever the colours become others. */
export function start(changed) {
  const names = Object.keys(THEMES);
  let current = names.includes(stored()) ? stored() : "auto";
  const show = () => {
    document.documentElement.dataset.theme = current;
    byId("theme").textContent = THEMES[current][0];
    byId("theme").setAttribute("aria-label", `Colours: ${THEMES[current][1]}`);
    byId("theme").title = `Colours: ${THEMES[current][1]}`;
    changed();
  };
  byId("theme").addEventListener("click", () => {
    current = names[(names.indexOf(current) + 1) % names.length];
    try {
      localStorage.setItem(NAME, current);
    } catch {
      // the choice then lasts until the page is loaded again
    }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  show();
}
