// Light and dark.

import { keep, setting } from "./state.js";
import { WORDS } from "./words.js";

const THEMES = /** @type {const} */ (["system", "dark", "light"]);
/** @type {HTMLElement | null} */
let button = null;

/** Show the theme that was chosen. @param {HTMLElement} [shown] The button that names it. */
export function applyTheme(shown) {
  button = shown ?? button;
  const chosen = THEMES.find((each) => each === setting("theme")) ?? "system";
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  if (button) button.textContent = WORDS.theme[chosen];
}

/** Go on to the next theme. */
export function nextTheme() {
  const chosen = THEMES.indexOf(/** @type {any} */ (setting("theme", "system")));
  keep("theme", THEMES[(chosen + 1) % THEMES.length]);
  applyTheme();
}
