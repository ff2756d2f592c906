// Filters, built from what the archive holds, with counts.

import { get } from "./api.js";
import { h } from "./dom.js";
import { ask, chosen } from "./query.js";
import { change, state } from "./state.js";
import { WORDS } from "./words.js";

const FIELDS = ["modality", "region", "label", "source", "sex"];
const FEW = 6;
/** Fields whose values are all shown, and those that are closed. @type {Set<string>} */
const whole = new Set();
/** @type {Set<string>} */
const closed = new Set(["source", "sex"]);
let latest = 0;

/** Count the values of each field among the images that pass the other filters. */
export async function count() {
  const own = ++latest;
  const filtered = FIELDS.filter((field) => state.where[field]?.length);
  const one = (/** @type {string} */ without) => {
    const where = chosen(without);
    return get("facets", state.archive, Object.keys(where).length ? { where: JSON.stringify(where), most: 100 } : { most: 100 });
  };
  try {
    const [all, ...each] = await Promise.all([one(""), ...filtered.map(one)]);
    if (own !== latest) return;
    const facets = FIELDS.map((field) => {
      const from = filtered.includes(field) ? each[filtered.indexOf(field)] : all;
      return from.facets.find((/** @type {any} */ facet) => facet.field === field);
    });
    change({ facets: facets.filter((facet) => facet && (facet.values.length || state.where[facet.field]?.length)) });
  } catch {
    if (own === latest) change({ facets: state.facets ?? [] }); // the search itself says what is wrong
  }
}

/** Choose a value, or not. @param {string} field @param {string} value */
function choose(field, value) {
  const values = state.where[field] ?? [];
  const others = values.filter((each) => each !== value);
  change({ where: { ...state.where, [field]: others.length < values.length ? others : [...values, value] } });
  count();
  ask();
}

/** Put all filters away. */
export function clearFilters() {
  change({ where: {} });
  count();
  return ask();
}

/** Return the filters. */
export function filters() {
  if (!state.facets) return null;
  const facets = state.facets.filter((/** @type {any} */ facet) => facet.field !== "label" || state.labels);
  const any = Object.values(state.where).some((values) => values.length);
  return h("section", { class: "filters", "aria-label": WORDS.filters },
    h("div", { class: "heading" }, h("h2", {}, WORDS.filters),
      any && h("button", { type: "button", class: "quiet", data: { key: "clear-filters" }, onclick: clearFilters }, WORDS.filterClear)),
    facets.length ? null : h("p", { class: "note" }, WORDS.filterNone),
    ...facets.map(group));
}

/** @param {any} facet */
function group(facet) {
  const { field } = facet, on = state.where[field] ?? [];
  const listed = [...facet.values, ...on.filter((value) => !facet.values.some((/** @type {any[]} */ [each]) => each === value)).map((value) => [value, 0])];
  const shown = whole.has(field) ? listed : listed.filter(([value], at) => at < FEW || on.includes(value));
  const details = h("details", { ontoggle: (/** @type {Event} */ event) => closed[/** @type {any} */ (event.target).open ? "delete" : "add"](field) },
    h("summary", { data: { key: `facet-${field}` } }, WORDS.fields[field], on.length ? h("span", { class: "chosen" }, String(on.length)) : null),
    ...shown.map(([value, images]) => h("label", { class: "facet" },
      h("input", { type: "checkbox", checked: on.includes(value), data: { key: `facet-${field}-${value}` }, onchange: () => choose(field, value) }),
      h("span", { class: "value" }, WORDS.value(field, value)), h("span", { class: "count" }, WORDS.number(images)))),
    listed.length > FEW && h("button", {
      type: "button", class: "quiet", data: { key: `whole-${field}` },
      onclick: () => { whole[whole.has(field) ? "delete" : "add"](field); change({}); },
    }, whole.has(field) ? WORDS.filterLess : WORDS.filterMore(listed.length)));
  /** @type {HTMLDetailsElement} */ (details).open = !closed.has(field) || on.length > 0;
  return details;
}
