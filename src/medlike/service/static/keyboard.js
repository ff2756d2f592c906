// The keyboard: shortcuts, and the way between cards.

import { choose } from "./card.js";
import { byId, h } from "./dom.js";
import { askImage, markHit, share } from "./query.js";
import { reachBox } from "./question.js";
import { rove, setView, toggleLabels } from "./results.js";
import { keep, setting, state } from "./state.js";
import { nextTheme } from "./theme.js";
import { WORDS } from "./words.js";

const comparable = document.body.dataset.viewer === "true";

/** Show what the keys do. */
export function help() {
  const dialog = /** @type {HTMLDialogElement} */ (h("dialog", { class: "help", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("h2", { id: "help-title" }, WORDS.shortcuts),
    h("dl", {}, ...WORDS.keys.filter(([key]) => comparable || key !== "c").flatMap(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)])),
    h("label", { class: "facet" }, h("input", { type: "checkbox", checked: setting("keys", "on") === "on", onchange: (/** @type {any} */ event) => keep("keys", event.target.checked ? "on" : "off") }), WORDS.singleKeys),
    h("p", {}, WORDS.helpText), h("p", {}, WORDS.notDevice), h("p", { class: "note" }, `medlike ${document.body.dataset.version}`),
    h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, WORDS.close)));
  document.body.append(dialog);
  dialog.showModal();
}

/** @param {HTMLElement} from @param {string} key */
function step(from, key) {
  const cards = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("article.card")]);
  const at = cards.indexOf(from);
  const across = cards.filter((each) => each.offsetTop === cards[0].offsetTop).length || 1;
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + across, ArrowUp: at - across, Home: 0, End: cards.length - 1 }[key];
  if (to === undefined || !cards[to]) return false;
  rove(cards[to]);
  cards[to].focus();
  return true;
}

/** Listen to the keys. */
export function listenToKeys() {
  document.addEventListener("focusin", (event) => {
    const card = /** @type {HTMLElement} */ (event.target).closest("article.card");
    if (card) rove(/** @type {HTMLElement} */ (card));
  });
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") target.blur();
    if (target.matches("input:not([type=checkbox]), textarea, select")) return;
    const card = /** @type {HTMLElement | null} */ (target.closest("article.card"));
    if (card && target === card && step(card, event.key)) return event.preventDefault();
    if (setting("keys", "on") !== "on") return;
    const id = card?.dataset.id ?? "";
    /** @type {Record<string, (() => void) | false | null | undefined | "">} */
    const keys = {
      "/": () => byId("words").focus(), o: () => byId("file").click(), b: reachBox, "?": help, t: nextTheme,
      h: state.status !== "empty" && toggleLabels, g: () => setView(state.view === "grid" ? "list" : "grid"),
      s: state.status === "done" && state.question?.kind !== "file" && share,
      l: id && state.question && (() => markHit(id, "like")), n: id && state.question && (() => markHit(id, "unlike")),
      m: id && (() => askImage(id)), c: comparable && id && (() => choose(id)),
    };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
