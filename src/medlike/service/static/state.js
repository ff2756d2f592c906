// What the page knows. Parts change it by `change`, and draw themselves again when told.

/**
 * @typedef {object} Question
 * @property {"file" | "image"} kind
 * @property {File} [file]
 * @property {string} [id]
 * @property {string} picture Address of its picture.
 * @property {number[]} size Width and height in pixels.
 */

/**
 * @typedef {object} State
 * @property {string} archive
 * @property {Question | null} question
 * @property {number[] | null} box x0, y0, x1, y1 in pixels of the question
 * @property {string} words
 * @property {Record<string, string[]>} where Chosen values, by field.
 * @property {string} rank
 * @property {number} k
 * @property {boolean} ownPatient True to leave out images of the question's patient.
 * @property {boolean} duplicates True to show nearly the same pictures once.
 * @property {Map<string, "like" | "unlike">} marks
 * @property {boolean} labels
 * @property {"grid" | "list"} view
 * @property {string[]} compare
 * @property {any} answer
 * @property {any} facets
 * @property {any[] | null} examples
 * @property {"empty" | "loading" | "done" | "failed"} status
 * @property {import("./api.js").Failure | null} failure
 * @property {string} notice A sentence about what was done.
 * @property {boolean} repeated True if the answer is that of a shared link.
 * @property {string | null} link
 */

export const PAGE = 24;
export const MOST = 984;

/** @type {State} */
export const state = {
  archive: "", question: null, box: null, words: "", where: {}, rank: "neighbours", k: PAGE, ownPatient: true,
  duplicates: true, marks: new Map(), labels: true, view: "grid", compare: [], answer: null, facets: null,
  examples: null, status: "empty", failure: null, notice: "", repeated: false, link: null,
};

/** @type {(() => void)[]} */
const listeners = [];

/** @param {() => void} listener */
export function onChange(listener) {
  listeners.push(listener);
}

/** @param {Partial<State>} values */
export function change(values) {
  Object.assign(state, values);
  for (const listener of listeners) listener();
}

/** @param {string} name @param {string} [fallback] */
export function setting(name, fallback = "") {
  try {
    return localStorage.getItem(`medlike-${name}`) ?? fallback;
  } catch {
    return fallback;
  }
}

/** @param {string} name @param {string} value */
export function keep(name, value) {
  try {
    localStorage.setItem(`medlike-${name}`, value);
  } catch {
    // A browser that keeps nothing shows the page as it begins.
  }
}
