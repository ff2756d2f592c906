// What medlike says of the question: the verdict, and what the archive holds near it.

import { h } from "./dom.js";
import { state } from "./state.js";
import { WORDS } from "./words.js";

/** True if the hits must not be read as alike. @param {any} answer */
export const doubtful = (answer) => Boolean(answer.outlier?.is_outlier || answer.familiarity?.alike === false);

/** Return the banner over the hits, where they must be read with care. @param {any} answer */
export function banner(answer) {
  const said = answer.outlier?.is_outlier
    ? { ...WORDS.outlier, text: WORDS.outlier.text(answer.outlier.p_value) }
    : answer.familiarity?.alike === false
      ? { ...WORDS.nothing, text: answer.familiarity.filtered ? WORDS.nothing.filtered : WORDS.nothing.text }
      : null;
  if (!said) return null;
  return h("div", { class: "banner", role: "note" },
    h("strong", {}, said.title), h("p", {}, said.text), h("p", { class: "act" }, said.act));
}

/** Return the verdict beside the question. @param {any} answer */
export function verdict(answer) {
  const lines = [], { familiarity: familiar, outlier } = answer;
  let title = WORDS.judged, kind = "";
  if (outlier?.is_outlier) [title, kind] = [WORDS.outlier.title, "care"];
  else if (familiar?.alike === false) [title, kind] = [WORDS.nothing.title, "care"];
  else if (familiar?.alike === null) lines.push(WORDS.tooFew(familiar.units));
  else if (familiar && familiar.share !== null && familiar.share <= 0.1) {
    [title, kind] = [WORDS.hardly.title, "care"];
    lines.push(WORDS.hardly.text(familiar.share));
  } else if (familiar && familiar.share !== null) lines.push(WORDS.familiar(familiar.share));
  if (answer.unjudged) lines.push(answer.query_text ? WORDS.unjudged.words : WORDS.unjudged.region);
  if (!outlier && !lines.length) return null;
  if (!outlier && title === WORDS.judged) title = "";
  return h("div", { class: `verdict ${kind}` },
    title && h("strong", {}, title),
    ...lines.map((line) => h("p", {}, line)),
    ...warnings(answer).map((warning) => h("p", {}, warning)));
}

/** Return the warnings as sentences, but the one that stands beside what is left out. @param {any} answer @returns {string[]} */
export const warnings = (answer) => answer.warnings
  .filter((/** @type {string} */ warning) => !warning.includes("patient is not known"))
  .map(WORDS.sentence);

/** Return the labels of the nearest patients; null where they would say nothing. @param {any} answer */
export function labels(answer) {
  const { summary } = answer;
  if (!state.labels || doubtful(answer) || !summary || summary.patients < 2) return null;
  const [first, ...others] = summary.values;
  const bar = h("span", { class: "bar", "aria-hidden": "true" }, h("i"), h("u"));
  const [filled, interval] = /** @type {HTMLElement[]} */ ([...bar.children]);
  filled.style.width = `${100 * first.share}%`;
  interval.style.left = `${100 * first.low}%`;
  interval.style.width = `${100 * (first.high - first.low)}%`;
  const rest = others.slice(0, 2).map((/** @type {any} */ each) => `${WORDS.value("label", each.value)} ${each.patients}`);
  if (others.length > 2) rest.push(`+${others.length - 2}`);
  if (summary.without) rest.push(WORDS.without(summary.without));
  return h("div", { class: "labels", title: WORDS.summaryHelp },
    h("span", {}, WORDS.summary(summary.patients)),
    h("strong", {}, `${WORDS.value("label", first.value)} ${first.patients}`), bar,
    h("span", {}, WORDS.interval(first)),
    rest.length ? h("span", { class: "rest" }, rest.join(" · ")) : null,
    h("em", {}, WORDS.noDiagnosis));
}
