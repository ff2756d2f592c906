// The images that were chosen to be compared.

import { thumbnail } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { choose } from "./card.js";
import { state } from "./state.js";
import { WORDS } from "./words.js";

/** @param {string} id @returns {import("./viewer/types.js").Item} What the viewer shows of an image. */
function shown(id) {
  const hit = (state.answer?.hits ?? []).find((/** @type {any} */ each) => each.id === id);
  const asked = state.question?.id === id && state.box ? state.box : null;
  const box = hit?.box ?? asked;
  return { id, boxes: box ? [box] : [] };
}

/** Open the viewer with what was chosen. */
async function compare() {
  const path = "./viewer/viewer.js"; // loaded only when it is needed
  const { openViewer } = await import(path);
  const container = h("div", { class: "compared" });
  const dialog = /** @type {HTMLDialogElement} */ (h("dialog", { class: "comparing", "aria-label": WORDS.compare }, container,
    h("button", { type: "button", onclick: () => dialog.close() }, WORDS.close)));
  document.body.append(dialog);
  dialog.showModal();
  const viewer = openViewer(container, state.compare.map(shown), { archive: state.archive });
  viewer.addEventListener("dismiss", () => dialog.close());
  dialog.addEventListener("close", () => {
    viewer.close();
    dialog.remove();
  });
}

/** Draw the tray. */
export function drawTray() {
  const place = byId("tray"), { compare: ids } = state;
  place.className = ids.length ? "tray" : "";
  if (!ids.length) return fill(place);
  fill(place, h("span", {}, WORDS.tray(ids.length)),
    ...ids.map((id) => h("button", { type: "button", class: "chosen-image", "aria-label": WORDS.compare, "aria-pressed": "true", data: { key: `tray-${id}` }, onclick: () => choose(id) },
      h("img", { src: thumbnail(state.archive, id, 128), alt: "" }))),
    ids.length < 2 ? h("span", { class: "note" }, WORDS.compareMore) : null,
    h("button", { type: "button", class: "primary go", disabled: ids.length < 2, data: { key: "go" }, onclick: compare }, WORDS.compareThem(ids.length)));
}
