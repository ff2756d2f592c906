// A hit: its picture, the matched box, how alike it is in words, its facts, and what can be done with it.

import { thumbnail } from "./api.js";
import { h, place } from "./dom.js";
import { askImage, boxInUse, markHit } from "./query.js";
import { change, state } from "./state.js";
import { WORDS } from "./words.js";

/**
 * Say how alike a hit is: a word, the number behind it, and what it means.
 * @param {any} hit
 * @param {any} answer
 * @returns {{word: string, share: string, meaning: string}}
 */
export function alike(hit, answer) {
  const cautious = answer.outlier?.is_outlier || answer.familiarity?.alike === false;
  const share = hit.label_share ?? hit.neighbour_share ?? null;
  if (hit.itself) return { word: WORDS.itself, share: "", meaning: "" };
  if (cautious) return { word: WORDS.nearest, share: "", meaning: WORDS.cautious };
  if (share !== null) {
    const meaning = hit.label_share === null ? WORDS.neighbourShare(share) : WORDS.labelShare(share);
    return { word: WORDS.degrees[[0.85, 0.65, 0.4].filter((least) => share < least).length], share: WORDS.ofHundred(share), meaning };
  }
  if (hit.score !== null) return { word: WORDS.place(hit.rank), share: "", meaning: WORDS.inWords };
  if (hit.box && hit.distance !== null) {
    return { word: WORDS.degrees[[0.85, 0.75, 0.65].filter((least) => 1 - hit.distance < least).length], share: WORDS.ofHundred(1 - hit.distance), meaning: WORDS.boxShare(1 - hit.distance) };
  }
  if (hit.similarity !== null) return { word: WORDS.place(hit.rank), share: hit.similarity.toFixed(2), meaning: WORDS.similarity(hit.similarity) };
  return { word: WORDS.place(hit.rank), share: "", meaning: WORDS.inWords };
}

/** Return the facts of an image in a few words. @param {any} metadata @returns {string} */
export function facts(metadata) {
  const known = ["modality", "region", "view", "sex"].filter((field) => metadata[field]).map((field) => WORDS.value(field, metadata[field]));
  if (metadata.age !== undefined && metadata.age !== null) known.push(WORDS.age(metadata.age));
  return known.join(" · ");
}

/** Return a text with its words in brackets marked. @param {string} text */
function snippet(text) {
  return h("p", { class: "text" }, ...text.split(/(\[[^\]]*\])/).map((part) =>
    part.startsWith("[") && part.endsWith("]") ? h("mark", {}, part.slice(1, -1)) : part));
}

/** Pictures that were shown, by address: one that is shown again does not flicker. @type {Map<string, HTMLElement>} */
const shown = new Map();

/** @param {any} hit @param {number} size */
function imageOf(hit, size) {
  const src = thumbnail(state.archive, hit.id, size), known = shown.get(src);
  if (known) return known;
  const image = h("img", {
    src, alt: WORDS.picture(facts(hit.metadata) || hit.id.slice(0, 8)), loading: "lazy", decoding: "async",
    onerror: () => image.replaceWith(h("span", { class: "missing" }, WORDS.noPicture)),
  });
  if (shown.size > 1000) shown.clear();
  shown.set(src, image);
  return image;
}

/**
 * Return the picture of a hit with its box.
 * @param {any} hit
 * @param {number} size
 */
function picture(hit, size) {
  const frame = h("div", { class: "picture" }, imageOf(hit, size));
  if (hit.box && hit.size && boxInUse()) {
    const box = h("div", { class: "box match" });
    place(box, hit.box, hit.size, true);
    frame.append(box);
  }
  frame.append(h("span", { class: "rank" }, String(hit.rank)));
  if (hit.mirrored) frame.append(h("span", { class: "corner-note" }, WORDS.mirrored));
  return frame;
}

/** @param {string} key @param {string} text @param {boolean} on @param {() => void} act @param {string} [kind] */
function toggle(key, text, on, act, kind = "") {
  return h("button", { type: "button", class: kind, "aria-pressed": String(on), data: { key }, onclick: act }, text);
}

/**
 * Return the card of a hit.
 * @param {any} hit
 * @param {any} answer
 * @param {boolean} comparable
 */
export function card(hit, answer, comparable) {
  const said = alike(hit, answer), mark = state.marks.get(hit.id), id = hit.id;
  const tip = `meaning-${id}`;
  const text = hit.snippet ?? (state.view === "list" ? Object.values(hit.texts).join(" ") : "");
  const label = hit.metadata.label;
  return h("article", {
    class: `card${mark ? ` ${mark}d` : ""}`, tabindex: "-1", data: { key: `card-${id}`, id },
    "aria-label": WORDS.hit(hit.rank, `${said.word} ${said.share}`),
  },
    picture(hit, 384),
    h("div", { class: "body" },
      h("div", { class: "alike" },
        h("strong", said.meaning ? { class: "said", tabindex: "0", "aria-describedby": tip, data: { key: `said-${id}` } } : {}, said.word),
        said.share && h("span", { class: "share" }, said.share),
        said.meaning && h("span", { class: "tip", role: "tooltip", id: tip }, said.meaning)),
      state.labels && h("p", { class: "label" }, label ? WORDS.value("label", label) : WORDS.noLabel),
      h("p", { class: "facts" }, facts(hit.metadata)),
      state.labels && text ? snippet(text) : null,
      hit.group_size > 1 && h("p", { class: "same" }, WORDS.same(hit.group_size - 1))),
    h("div", { class: "acts" },
      state.question && toggle(`like-${id}`, WORDS.relevant, mark === "like", () => markHit(id, "like"), "like"),
      state.question && toggle(`unlike-${id}`, WORDS.irrelevant, mark === "unlike", () => markHit(id, "unlike"), "unlike"),
      comparable && toggle(`compare-${id}`, WORDS.compare, state.compare.includes(id), () => choose(id)),
      h("button", { type: "button", class: "wide", data: { key: `more-${id}` }, onclick: () => askImage(id) }, WORDS.moreLike)));
}

/** Choose a hit for comparing, or not. @param {string} id */
export function choose(id) {
  const others = state.compare.filter((each) => each !== id);
  if (others.length < state.compare.length) change({ compare: others });
  else if (others.length < 8) change({ compare: [...others, id] });
}
