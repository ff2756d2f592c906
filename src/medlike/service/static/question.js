// The left side: the question, its box, the verdict on it, filters, and what is left out.

import { boxOn, resized, around } from "./box.js";
import { byId, fill, h } from "./dom.js";
import { filters } from "./facets.js";
import { ask, clear } from "./query.js";
import { change, state } from "./state.js";
import { verdict } from "./verdict.js";
import { WORDS } from "./words.js";

/** @type {{picture: string, stage: HTMLElement, set: (box: number[] | null) => void} | null} */
let held = null;

/** @param {number[] | null} box */
function setBox(box) {
  const same = String(box) === String(state.box);
  change({ box });
  if (!same) ask();
}

/** Return the picture with its box; the same element as long as it is the same picture. */
function stage() {
  const question = /** @type {import("./state.js").Question} */ (state.question);
  if (held?.picture === question.picture && held.stage.isConnected) {
    held.set(state.box);
    held.stage.classList.toggle("aside", state.marks.size > 0);
    return held.stage;
  }
  const image = h("img", { src: question.picture, alt: WORDS.pictureOf, draggable: "false" });
  const frame = h("div", { class: `stage${state.marks.size ? " aside" : ""}` }, image);
  frame.style.setProperty("--ratio", String(question.size[0] / question.size[1]));
  held = { picture: question.picture, stage: frame, set: boxOn(frame, question.size, state.box, setBox) };
  return frame;
}

/** Add a box, or put the focus on the one there is. */
export function reachBox() {
  if (!state.question) return;
  if (!state.box) setBox(around([state.question.size[0] / 2, state.question.size[1] / 2], state.question.size));
  setTimeout(() => /** @type {HTMLElement | null} */ (document.querySelector(".query-box"))?.focus());
}

/** Return what can be done with the box. */
function boxTools() {
  const { box, question } = state;
  if (!question) return null;
  const size = question.size;
  const button = (/** @type {string} */ key, /** @type {string} */ text, /** @type {() => void} */ act) => h("button", { type: "button", data: { key }, onclick: act }, text);
  if (!box) {
    return h("div", { class: "box-tools" }, h("p", { class: "note" }, WORDS.boxDraw), button("box-add", WORDS.boxAdd, reachBox));
  }
  return h("div", { class: "box-tools" },
    button("box-smaller", WORDS.boxSmaller, () => setBox(resized(box, 0.8, size))),
    button("box-larger", WORDS.boxLarger, () => setBox(resized(box, 1.25, size))),
    button("box-remove", WORDS.boxRemove, () => setBox(null)),
    state.marks.size ? h("p", { class: "note" }, WORDS.boxAside) : null);
}

/** @param {"ownPatient" | "duplicates"} name @param {string} text @param {boolean} able */
function leaveOut(name, text, able) {
  return h("label", { class: "facet" },
    h("input", { type: "checkbox", checked: state[name] && able, disabled: !able, data: { key: `out-${name}` }, onchange: () => { change({ [name]: !state[name] }); ask(); } }),
    h("span", { class: "value" }, text));
}

/** Return what is left out of the answers. */
function leftOut() {
  const own = state.answer?.receipt?.query?.own;
  const known = !state.question || !own || Object.keys(own).length > 0;
  return h("section", { class: "filters", "aria-label": WORDS.leftOut }, h("h2", {}, WORDS.leftOut),
    state.question && leaveOut("ownPatient", WORDS.ownPatient, known),
    state.question && !known ? h("p", { class: "note" }, WORDS.ownPatientUnknown) : null,
    leaveOut("duplicates", WORDS.duplicates, true));
}

/** Draw the left side. */
export function drawQuestion() {
  const panel = byId("question"), { question, answer } = state;
  if (panel.querySelector(".dragging")) return; // drawn when the drag ends
  document.body.classList.toggle("asked", state.status !== "empty");
  const pick = (/** @type {string} */ text, /** @type {string} */ kind) => h("button", { type: "button", class: kind, data: { key: "choose" }, onclick: () => byId("file").click() }, text);
  const top = question
    ? [stage(),
      h("div", { class: "under" }, h("p", { class: "note" }, question.kind === "file" ? WORDS.yours : WORDS.stored),
        pick(WORDS.chooseOther, "quiet"), h("button", { type: "button", class: "quiet", data: { key: "clear" }, onclick: clear }, WORDS.clear)),
      boxTools()]
    : state.status === "loading" && !state.words
      ? [h("div", { class: "stage waiting" }, h("span", {}, WORDS.reading))]
      : [h("div", { class: "dropzone" }, h("p", {}, state.words ? WORDS.onlyWords : WORDS.drop), pick(WORDS.choose, "primary"), h("p", { class: "note" }, WORDS.stays)),
        state.words ? h("button", { type: "button", class: "quiet", data: { key: "clear" }, onclick: clear }, WORDS.clear) : null];
  const scrolled = panel.querySelector(".rest-of-question")?.scrollTop ?? 0;
  const rest = h("div", { class: "rest-of-question" },
    answer && state.status !== "failed" ? verdict(answer) : null, filters(), state.status === "empty" ? null : leftOut());
  fill(panel, h("div", { class: "top-of-question" }, ...top.filter((each) => each !== null)), rest, h("p", { class: "device" }, WORDS.notDevice));
  rest.scrollTop = scrolled;
}
