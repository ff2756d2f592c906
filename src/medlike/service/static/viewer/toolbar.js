/** The buttons above the panes, the list of windows, and the table of keys. */

import { element, say } from "./elements.js";
import { SHORTCUTS } from "./keyboard.js";
import { presets, sameWindow } from "./presets.js";
import { number } from "./readout.js";
import { words } from "./words.js";

/** @import {Panes} from "./panes.js" */

/** @typedef {{toggle: (name: "linked" | "smooth" | "boxes" | "facts" | "help") => void}} Switches */

/**
 * Make the toolbar of a viewer.
 *
 * @param {HTMLElement} root  Of the viewer; its classes say what is hidden.
 * @param {Panes} panes
 * @returns {{element: HTMLElement, help: HTMLDialogElement, switches: Switches, refresh: () => void}}
 */
export function toolbar(root, panes) {
  const on = { linked: panes.linked, smooth: true, boxes: true, facts: true };
  const help = helpDialog();
  /** @type {Map<string, HTMLButtonElement>} */
  const buttons = new Map();

  /** @param {keyof typeof words.tools} name @param {() => void} run @param {boolean} [pressed] */
  function button(name, run, pressed) {
    const hint = words.hints[name];
    const key = SHORTCUTS.find((each) => each.hint === name)?.shown;
    const made = element("button", { type: "button", title: key ? `${hint} (${key})` : hint }, words.tools[name]);
    if (pressed !== undefined) made.setAttribute("aria-pressed", String(pressed));
    made.addEventListener("click", run);
    buttons.set(name, made);
    return made;
  }

  /** @type {Switches} */
  const switches = {
    toggle(name) {
      if (name === "help") {
        if (help.open) help.close();
        else help.showModal();
        return;
      }
      on[name] = !on[name];
      buttons.get(name)?.setAttribute("aria-pressed", String(on[name]));
      if (name === "linked") panes.link(on.linked);
      else if (name === "smooth") panes.smoothen(on.smooth);
      else root.classList.toggle(`viewer-without-${name}`, !on[name]);
    },
  };
  const select = element("select", { "aria-label": words.preset });
  select.addEventListener("change", () => panes.choose(Number(select.value)));
  const flipped = () => panes.flip(false);
  const bar = element("div", { class: "viewer-tools", role: "toolbar", "aria-label": words.viewer },
    element("label", {}, `${words.preset} `, select),
    ...[
      button("invert", () => panes.invert(), false),
      button("clockwise", () => panes.turn(1)),
      button("mirror", flipped),
      button("fit", () => panes.fitPane()),
      button("actual", () => panes.actual()),
      button("reset", () => panes.reset()),
      button("linked", () => switches.toggle("linked"), on.linked),
      button("smooth", () => switches.toggle("smooth"), on.smooth),
      button("boxes", () => switches.toggle("boxes"), on.boxes),
      button("facts", () => switches.toggle("facts"), on.facts),
      button("help", () => switches.toggle("help")),
    ]);
  let listed = "";

  /** Show what holds for the active pane. */
  function refresh() {
    const { frame, modality, window, inverted } = panes.active;
    buttons.get("invert")?.setAttribute("aria-pressed", String(inverted));
    const choices = presets(frame, modality);
    const chosen = choices.findIndex((choice) => sameWindow(choice.window, window));
    const names = choices.map((choice) => choice.name);
    const key = JSON.stringify(names);
    if (key !== listed) {
      listed = key;
      select.replaceChildren(...names.map((name, at) => element("option", { value: at }, name)),
        element("option", { value: -1, disabled: true, hidden: true }, words.own));
    }
    select.disabled = choices.length === 0;
    const own = window ? `${words.own}: ${words.window(number(window.width), number(window.center))}` : words.own;
    const last = /** @type {HTMLElement} */ (select.lastElementChild);
    say(last, chosen < 0 ? own : words.own);
    select.value = String(chosen);
  }

  return { element: bar, help, switches, refresh };
}

/** @returns {HTMLDialogElement} */
function helpDialog() {
  const rows = [
    ...words.help.gestures,
    ...SHORTCUTS.map(({ shown, hint }) => /** @type {[string, string]} */ ([shown, words.hints[hint]])),
  ].map(([key, action]) => element("tr", {}, element("th", { scope: "row" }, key), element("td", {}, action)));
  const close = element("button", { type: "button" }, words.help.close);
  const dialog = element("dialog", { class: "viewer-help", "aria-label": words.help.title },
    element("h2", {}, words.help.title), element("table", {}, element("tbody", {}, ...rows)), close);
  close.addEventListener("click", () => dialog.close());
  // Its own keys, such as Escape, are not those of the viewer.
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "?") dialog.close();
  });
  return dialog;
}
