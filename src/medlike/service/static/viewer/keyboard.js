/** Keys: one table of what each does, used for the keys themselves and for the table that is shown. */

import { words } from "./words.js";

/** @import {Panes} from "./panes.js" */
/** @import {Switches} from "./toolbar.js" */

/**
 * @typedef {object} Shortcut
 * @property {string[]} keys  As KeyboardEvent.key, with Shift+ or Alt+ before it where that belongs to it.
 * @property {string} shown  The keys as they are written.
 * @property {keyof typeof words.hints} hint  What they do.
 * @property {(panes: Panes, switches: Switches, key: string) => void} run
 */

/** Pixels by which a key moves the image or drags the window. */
const STEP = 20;

/** @param {number} dx @param {number} dy @returns {Shortcut["run"]} */
const drag = (dx, dy) => (panes) => panes.drag(dx, dy);
/** @param {number} dx @param {number} dy @returns {Shortcut["run"]} */
const pan = (dx, dy) => (panes) => panes.pan(dx * 2, dy * 2);
/** @param {number} dx @param {number} dy @returns {Shortcut["run"]} */
const measure = (dx, dy) => (panes) => panes.measureBy(dx, dy);
/** @param {number} by @returns {Shortcut["run"]} */
const scroll = (by) => (panes) => panes.scroll(by);
/** @param {"linked" | "smooth" | "boxes" | "facts" | "help"} name @returns {Shortcut["run"]} */
const toggle = (name) => (_, switches) => switches.toggle(name);

/** @type {Shortcut[]} */
export const SHORTCUTS = [
  { keys: ["ArrowLeft"], shown: "\u2190", hint: "narrower", run: drag(-STEP, 0) },
  { keys: ["ArrowRight"], shown: "\u2192", hint: "wider", run: drag(STEP, 0) },
  { keys: ["ArrowUp"], shown: "\u2191", hint: "darker", run: drag(0, -STEP) },
  { keys: ["ArrowDown"], shown: "\u2193", hint: "brighter", run: drag(0, STEP) },
  { keys: ["1", "2", "3", "4", "5"], shown: "1 \u2026 5", hint: "presets", run: (panes, _, key) => panes.choose(Number(key) - 1) },
  { keys: ["i"], shown: "I", hint: "invert", run: (panes) => panes.invert() },
  { keys: ["+", "="], shown: "+", hint: "zoomIn", run: (panes) => panes.zoom(1.25) },
  { keys: ["-"], shown: "\u2212", hint: "zoomOut", run: (panes) => panes.zoom(0.8) },
  { keys: ["f"], shown: "F", hint: "fit", run: (panes) => panes.fitPane() },
  { keys: ["a"], shown: "A", hint: "actual", run: (panes) => panes.actual() },
  { keys: ["Shift+ArrowLeft"], shown: "Shift \u2190", hint: "left", run: pan(-STEP, 0) },
  { keys: ["Shift+ArrowRight"], shown: "Shift \u2192", hint: "right", run: pan(STEP, 0) },
  { keys: ["Shift+ArrowUp"], shown: "Shift \u2191", hint: "up", run: pan(0, -STEP) },
  { keys: ["Shift+ArrowDown"], shown: "Shift \u2193", hint: "down", run: pan(0, STEP) },
  { keys: ["Alt+ArrowLeft"], shown: "Alt \u2190", hint: "cursorLeft", run: measure(-1, 0) },
  { keys: ["Alt+ArrowRight"], shown: "Alt \u2192", hint: "cursorRight", run: measure(1, 0) },
  { keys: ["Alt+ArrowUp"], shown: "Alt \u2191", hint: "cursorUp", run: measure(0, -1) },
  { keys: ["Alt+ArrowDown"], shown: "Alt \u2193", hint: "cursorDown", run: measure(0, 1) },
  { keys: ["PageDown"], shown: "Page down", hint: "nextFrame", run: scroll(1) },
  { keys: ["PageUp"], shown: "Page up", hint: "previousFrame", run: scroll(-1) },
  { keys: ["Home"], shown: "Home", hint: "firstFrame", run: scroll(-Infinity) },
  { keys: ["End"], shown: "End", hint: "lastFrame", run: scroll(Infinity) },
  { keys: ["r"], shown: "R", hint: "clockwise", run: (panes) => panes.turn(1) },
  { keys: ["Shift+r"], shown: "Shift R", hint: "counterclockwise", run: (panes) => panes.turn(-1) },
  { keys: ["h"], shown: "H", hint: "mirror", run: (panes) => panes.flip(false) },
  { keys: ["v"], shown: "V", hint: "upright", run: (panes) => panes.flip(true) },
  { keys: ["n"], shown: "N", hint: "nextPane", run: (panes) => panes.step(1) },
  { keys: ["p"], shown: "P", hint: "previousPane", run: (panes) => panes.step(-1) },
  { keys: ["l"], shown: "L", hint: "linked", run: toggle("linked") },
  { keys: ["b"], shown: "B", hint: "boxes", run: toggle("boxes") },
  { keys: ["o"], shown: "O", hint: "facts", run: toggle("facts") },
  { keys: ["s"], shown: "S", hint: "smooth", run: toggle("smooth") },
  { keys: ["0", "Backspace"], shown: "0", hint: "reset", run: (panes) => panes.reset() },
  { keys: ["?"], shown: "?", hint: "help", run: toggle("help") },
  { keys: ["Escape"], shown: "Esc", hint: "close", run: (panes) => panes.emit("dismiss") },
];

/** @type {Map<string, Shortcut>} */
const byKey = new Map(SHORTCUTS.flatMap((shortcut) => shortcut.keys.map((key) => [key, shortcut])));

/**
 * Listen to the keys while the viewer has the focus.
 *
 * @param {HTMLElement} container
 * @param {Panes} panes
 * @param {Switches} switches
 * @returns {{space: () => boolean, close: () => void}}  `space`: whether the space bar is down.
 */
export function attachKeys(container, panes, switches) {
  let space = false;

  /** @param {KeyboardEvent} event */
  function down(event) {
    const target = /** @type {Element} */ (event.target);
    if (event.ctrlKey || event.metaKey || target.matches("select, input, textarea")) return;
    const onPane = target.classList.contains("viewer-pane");
    if (event.key === " " && onPane) {
      space = true;
      event.preventDefault();
      return;
    }
    const shortcut = byKey.get(named(event));
    if (!shortcut) return;
    event.preventDefault();
    event.stopPropagation();
    shortcut.run(panes, switches, event.key);
  }

  /** @param {KeyboardEvent} event */
  function up(event) {
    if (event.key === " ") space = false;
  }

  const blur = () => { space = false; };
  container.addEventListener("keydown", down);
  window.addEventListener("keyup", up);
  window.addEventListener("blur", blur);
  return {
    space: () => space,
    close() {
      container.removeEventListener("keydown", down);
      window.removeEventListener("keyup", up);
      window.removeEventListener("blur", blur);
    },
  };
}

/** Return the name of a key in the table. @param {KeyboardEvent} event */
function named(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.altKey) return `Alt+${key}`;
  // Shift makes another sign of most keys; for letters and arrows it is part of the name.
  return event.shiftKey && (key.length > 1 || /[a-z]/.test(key)) ? `Shift+${key}` : key;
}
