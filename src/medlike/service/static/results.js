// The right side: the answers, or what is the case instead of them.

import { get, thumbnail } from "./api.js";
import { card, facts } from "./card.js";
import { byId, fill, h } from "./dom.js";
import { clearFilters } from "./facets.js";
import { again, ask, askImage, clearMarks, share } from "./query.js";
import { change, keep, MOST, PAGE, state } from "./state.js";
import { banner, labels, warnings } from "./verdict.js";
import { WORDS } from "./words.js";

const comparable = document.body.dataset.viewer === "true";

/** Return what the answers are like. */
function kind() {
  if (state.marks.size) return WORDS.like.marks;
  if (state.question && state.words) return WORDS.like.both;
  if (!state.question) return WORDS.like.words;
  return state.box ? WORDS.like.box : WORDS.like.image;
}

/** @param {string} key @param {string} text @param {() => void} act @param {Record<string, any>} [more] */
const button = (key, text, act, more = {}) => h("button", { type: "button", data: { key }, onclick: act, ...more }, text);

/** Show labels or hide them. */
export function toggleLabels() {
  const labels = !state.labels;
  change(labels ? { labels } : { labels, where: { ...state.where, label: [] } });
  if (!labels && state.answer?.receipt.settings.where?.label) ask();
}

/** @param {"grid" | "list"} view */
export function setView(view) {
  keep("view", view);
  change({ view });
}

/** Return the line over the answers. */
function line() {
  const { answer } = state, fixed = Boolean(state.words || (state.box && !state.marks.size));
  const sharable = answer && state.question?.kind !== "file" && state.status === "done";
  const seconds = answer ? Object.values(answer.seconds).reduce((/** @type {number} */ a, /** @type {any} */ b) => a + b, 0) : 0;
  const select = h("select", {
    "aria-label": WORDS.rank, data: { key: "rank" }, disabled: fixed, title: fixed ? WORDS.rankFixed : "",
    onchange: (/** @type {any} */ event) => { change({ rank: event.target.value }); ask(); },
  }, ...Object.entries(WORDS.ranks).map(([value, text]) => h("option", { value, selected: value === state.rank }, text)));
  return h("div", { class: "line" },
    h("h2", {}, answer ? WORDS.images(answer.hits.length) : WORDS.loading),
    h("span", { class: "kind" }, answer ? `${kind()}, ${WORDS.first} · ${WORDS.seconds(seconds)}` : ""),
    h("div", { class: "controls" },
      select,
      h("div", { class: "segments", role: "group" }, ...(/** @type {const} */ (["grid", "list"])).map((view) =>
        button(`view-${view}`, WORDS[view], () => setView(view), { "aria-pressed": String(state.view === view) }))),
      button("labels", state.labels ? WORDS.hide : WORDS.show, toggleLabels, { "aria-pressed": String(!state.labels) }),
      button("share", WORDS.share, share, { disabled: !sharable, title: sharable ? "" : WORDS.shareNot })));
}

/** Return sentences on what was done, with what can be done about it. */
function notices() {
  const shown = [];
  if (state.repeated) {
    const erased = state.answer?.erased ? ` ${WORDS.erased(state.answer.erased)}` : "";
    shown.push(h("p", { class: "notice" }, WORDS.repeated + erased, button("anew", WORDS.askAgain, () => ask())));
  }
  if (state.link) {
    shown.push(h("p", { class: "notice" }, h("label", { for: "link" }, WORDS.linkMade),
      h("input", { id: "link", readonly: true, value: state.link, "aria-label": WORDS.link, data: { key: "link" }, onfocus: (/** @type {any} */ event) => event.target.select() })));
  }
  if (state.notice) shown.push(h("p", { class: "notice" }, state.notice));
  if (state.marks.size) {
    shown.push(h("p", { class: "notice" }, WORDS.marked(state.marks.size), button("clear-marks", WORDS.clearMarks, clearMarks)));
  }
  return shown;
}

/** Return a state that is not an answer. @param {string} title @param {string[]} lines @param {Node | null} act */
const message = (title, lines, act) => h("div", { class: "message" },
  h("h2", {}, title), ...lines.filter(Boolean).map((text) => h("p", {}, text)), act);

function failure() {
  const failed = /** @type {import("./api.js").Failure} */ (state.failure), said = WORDS.failures[failed.kind];
  const detail = failed.kind === "refused" || failed.kind === "error" ? WORDS.sentence(failed.message) : "";
  const numbered = failed.kind === "error" && failed.request && !detail.includes(failed.request);
  return message(said.title, [detail, said.act, numbered ? WORDS.request(failed.request ?? "") : ""],
    failed.kind === "offline" || failed.kind === "error" ? button("again", WORDS.again, again, { class: "primary" })
      : failed.kind === "refused" ? button("other", WORDS.choose, () => byId("file").click(), { class: "primary" }) : null);
}

/** Load images to begin with: some of each modality. */
export async function loadExamples() {
  try {
    const { facets } = await get("facets", state.archive, { most: 5 });
    const modalities = facets.find((/** @type {any} */ facet) => facet.field === "modality")?.values ?? [];
    const pages = modalities.length
      ? await Promise.all(modalities.map(([value, images]) =>
        get("images", state.archive, { where: JSON.stringify({ modality: value }), limit: 2, offset: Math.floor(images / 3) })))
      : [await get("images", state.archive, { limit: 10 })];
    change({ examples: pages.flatMap((page) => page.images).slice(0, 10) });
  } catch {
    change({ examples: [] });
  }
}

function start() {
  const examples = state.examples;
  return h("div", { class: "start" },
    h("h2", {}, WORDS.start), h("p", {}, WORDS.startText),
    examples?.length ? h("h3", {}, WORDS.examples) : null,
    examples && h("div", { class: "examples" }, ...examples.map((image) => {
      const said = facts(image.metadata) || image.id.slice(0, 8);
      return h("button", { type: "button", "aria-label": WORDS.example(said), data: { key: `example-${image.id}` }, onclick: () => askImage(image.id) },
        h("img", { src: thumbnail(state.archive, image.id, 256), alt: "" }), h("span", {}, said));
    })));
}

function waiting() {
  return h("div", { class: "cards grid waiting", "aria-hidden": "true" },
    ...Array.from({ length: 8 }, () => h("div", { class: "card" }, h("div", { class: "picture" }), h("div", { class: "body" }, h("i"), h("i")))));
}

function hits() {
  const { answer } = state;
  if (!answer.hits.length) {
    const filtered = Object.values(state.where).some((values) => values.length);
    return [message(WORDS.nothingFound.title, [WORDS.nothingFound.text, ...warnings(answer)],
      filtered ? button("no-filters", WORDS.nothingFound.act, clearFilters, { class: "primary" }) : null)];
  }
  const full = answer.hits.length >= state.k;
  return [
    h("div", { class: `cards ${state.view}` }, ...answer.hits.map((/** @type {any} */ hit) => card(hit, answer, comparable))),
    full && state.k < MOST
      ? h("p", { class: "end" }, button("more", WORDS.more, () => { change({ k: state.k + PAGE }); ask({ more: true }); }))
      : h("p", { class: "end note" }, WORDS.all),
  ];
}

/** Draw the right side. */
export function drawAnswers() {
  const place = byId("answers"), { status, answer } = state;
  place.setAttribute("aria-busy", String(status === "loading"));
  const scrolled = place.scrollTop;
  const shown = status === "empty" ? [start()]
    : status === "failed" ? [failure()]
      : !answer ? [line(), waiting()]
        : [h("div", { class: "over" }, line(), labels(answer), ...notices()), banner(answer), ...hits()];
  fill(place, h("div", { class: "progress", hidden: status !== "loading" }), ...shown);
  place.scrollTop = scrolled;
  rove();
}

/** Let Tab reach one card and its buttons; arrows reach the others. @param {HTMLElement} [chosen] */
export function rove(chosen) {
  const cards = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("article.card")]);
  const focused = /** @type {HTMLElement | undefined} */ (document.activeElement?.closest("article.card") ?? undefined);
  const current = chosen ?? focused ?? cards[0];
  for (const each of cards) {
    each.tabIndex = each === current ? 0 : -1;
    for (const inner of /** @type {NodeListOf<HTMLElement>} */ (each.querySelectorAll("button, .said"))) inner.tabIndex = each === current ? 0 : -1;
  }
}
