// Asking: what a search is made of, and the order in which requests are sent.

import * as api from "./api.js";
import { announce, byId } from "./dom.js";
import { change, PAGE, state } from "./state.js";
import { WORDS } from "./words.js";

/** @type {AbortController | null} */
let running = null;
/** Encoded queries of the file that is asked about, by box. @type {Map<string, any>} */
const encoded = new Map();

/** What was asked last, to be tried again. @type {() => Promise<void>} */
let latest = () => ask();

/** Try again what failed. */
export const again = () => latest();

/** Return the filter that is chosen. @param {string} [without] A field to leave out. */
export function chosen(without) {
  const filled = Object.entries(state.where).filter(([field, values]) => values.length && field !== without);
  return Object.fromEntries(filled.map(([field, values]) => [field, { in: values }]));
}

const marked = (/** @type {string} */ mark) => [...state.marks].filter(([, value]) => value === mark).map(([id]) => id);

/** Return the box, where it counts: marks move the whole image. */
export const boxInUse = () => (state.marks.size ? null : state.box);

/** Return what the settings say, as keys of a search. */
function settings() {
  const where = chosen();
  return {
    k: state.k, rank: state.rank,
    exclude_own_patient: state.ownPatient && state.question !== null,
    ...(state.duplicates ? { collapse: "duplicates" } : {}),
    ...(Object.keys(where).length ? { where } : {}),
  };
}

/** Return the request for what is asked. @param {AbortSignal} signal */
async function request(signal) {
  const { question, words } = state, region = boxInUse();
  const facts = {
    ...settings(), ...(words ? { text: words } : {}),
    ...(state.marks.size && question ? { like: marked("like"), unlike: marked("unlike") } : {}),
  };
  if (!question) return facts;
  if (question.kind === "image") return { ...facts, id: question.id, ...(region ? { region } : {}) };
  const key = `${state.archive} ${region ?? ""}`;
  if (!encoded.has(key)) {
    const answer = await api.encode(state.archive, /** @type {File} */ (question.file), { k: 1, ...(region ? { region } : {}) }, signal);
    if (encoded.size > 20) encoded.clear();
    encoded.set(key, answer.encoded);
  }
  return { ...facts, encoded: encoded.get(key) };
}

/**
 * Ask, and show what comes back. A newer question ends an older one.
 * @param {{more?: boolean}} [how] `more` keeps the notice.
 */
export async function ask(how = {}) {
  running?.abort();
  latest = () => ask(how);
  if (!state.question && !state.words) {
    change({ status: "empty", answer: null, failure: null });
    return;
  }
  const own = (running = new AbortController());
  if (!how.more) {
    byId("answers").scrollTop = 0;
    change({ k: PAGE });
  }
  change({ status: "loading", failure: null, repeated: false, link: null, notice: "" });
  try {
    const answer = await api.search(state.archive, await request(own.signal), own.signal);
    if (own.signal.aborted) return;
    show(answer);
  } catch (error) {
    if (!own.signal.aborted) failed(error);
  }
}

/** @param {any} answer */
function show(answer) {
  change({ answer, status: "done", failure: null });
  announce(WORDS.found(answer.hits.length));
}

/** @param {any} error */
export function failed(error) {
  const failure = error instanceof api.Failure ? error : new api.Failure("error", String(error?.message ?? error));
  change({ status: "failed", failure, answer: null });
  announce(`${WORDS.failures[failure.kind].title}. ${failure.message}`);
}

/**
 * Ask about a file.
 * @param {File} file
 * @param {number} [others] Files that came with it.
 */
export async function askFile(file, others = 0) {
  running?.abort();
  latest = () => askFile(file, others);
  const own = (running = new AbortController());
  encoded.clear();
  change({ status: "loading", failure: null, answer: null, question: null, box: null, marks: new Map(), compare: [], notice: "" });
  history.replaceState(null, "", location.pathname);
  try {
    const picture = await api.picture(file, own.signal);
    const size = await measured(picture);
    const answer = await api.encode(state.archive, file, { k: 1 }, own.signal);
    if (own.signal.aborted) return;
    encoded.set(`${state.archive} `, answer.encoded);
    change({ question: { kind: "file", file, picture, size: answer.query_size ?? size } });
    await ask();
    if (others) change({ notice: WORDS.oneOfSeveral(others + 1) });
  } catch (error) {
    if (!own.signal.aborted) failed(error);
  }
}

/** @param {string} address @returns {Promise<number[]>} */
function measured(address) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);
    image.onerror = () => resolve([1, 1]);
    image.src = address;
  });
}

/**
 * Ask about a stored image.
 * @param {string} id
 * @param {{quiet?: boolean}} [how] `quiet` leaves the address as it is.
 */
export async function askImage(id, how = {}) {
  running?.abort();
  latest = () => askImage(id, how);
  encoded.clear();
  change({ status: "loading", failure: null, box: null, marks: new Map(), notice: "" });
  try {
    const [facts, marks] = await Promise.all([
      api.get(`images/${id}`, state.archive), api.get(`marks/${id}`, state.archive).catch(() => ({ like: [], unlike: [] })),
    ]);
    change({
      question: { kind: "image", id, picture: api.rendered(state.archive, id), size: facts.size },
      marks: new Map([...marks.like.map((/** @type {string} */ each) => [each, "like"]), ...marks.unlike.map((/** @type {string} */ each) => [each, "unlike"])]),
    });
    if (!how.quiet) history.pushState(null, "", `#image=${id}`);
    await ask();
  } catch (error) {
    failed(error);
  }
}

/** Ask in words. @param {string} words */
export function askWords(words) {
  change({ words: words.trim() });
  return ask();
}

/** Put the question away. */
export function clear() {
  running?.abort();
  encoded.clear();
  history.replaceState(null, "", location.pathname);
  change({ question: null, box: null, words: "", marks: new Map(), compare: [], answer: null, status: "empty", failure: null, notice: "", repeated: false, link: null, k: PAGE });
}

/**
 * Mark a hit, or take its mark away, and order the hits anew.
 * @param {string} id
 * @param {"like" | "unlike"} mark
 */
export async function markHit(id, mark) {
  const marks = new Map(state.marks), { question } = state;
  const off = marks.get(id) === mark;
  if (off) marks.delete(id);
  else marks.set(id, mark);
  change({ marks });
  if (question?.kind === "image") {
    const path = `marks/${question.id}/${id}`;
    (off ? api.write("DELETE", path, state.archive) : api.write("PUT", path, state.archive, { mark })).catch(() => undefined);
  }
  await ask({ more: true });
  announce(WORDS.reordered(marks.size));
}

/** Take all marks away. */
export function clearMarks() {
  const { question } = state;
  if (question?.kind === "image") api.write("DELETE", `marks/${question.id}`, state.archive).catch(() => undefined);
  change({ marks: new Map() });
  return ask();
}

/** Store the receipt of the answer, and return a link that shows the same answer. */
export async function share() {
  try {
    const stored = await api.write("POST", "receipts", state.archive, state.answer.receipt);
    const link = `${location.origin}/#receipt=${stored.id}&archive=${encodeURIComponent(state.archive)}`;
    const copied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
    change({ link });
    announce(copied ? WORDS.linkCopied : WORDS.linkMade);
  } catch (error) {
    const failure = /** @type {any} */ (error);
    change({ notice: failure.message || WORDS.failures.offline.title });
  }
}

/** Show the answer of a shared link. @param {string} id */
export async function openReceipt(id) {
  running?.abort();
  latest = () => openReceipt(id);
  change({ status: "loading", failure: null });
  try {
    const [{ receipt }, answer] = await Promise.all([
      api.get(`receipts/${id}/receipt`, state.archive), api.get(`receipts/${id}`, state.archive),
    ]);
    const { settings: used, query } = receipt;
    const values = (/** @type {any} */ test) => ("in" in test ? test.in : [test.eq ?? test]);
    change({
      question: query.id ? { kind: "image", id: query.id, picture: api.rendered(state.archive, query.id), size: query.size } : null,
      box: answer.query_box, words: answer.query_text ?? "", rank: used.rank, k: used.k,
      where: Object.fromEntries(Object.entries(used.where ?? {}).map(([field, test]) => [field, values(test)])),
      ownPatient: Boolean(used.exclude_own_patient) || !query.id, duplicates: used.collapse === "duplicates",
      marks: new Map([...(query.like ?? []).map((/** @type {string} */ each) => [each, "like"]), ...(query.unlike ?? []).map((/** @type {string} */ each) => [each, "unlike"])]),
      repeated: true, link: null,
    });
    show(answer);
  } catch (error) {
    failed(error);
  }
}
