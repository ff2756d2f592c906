/** Elements of the page, made without HTML text. */

/**
 * Return a new element.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | number | boolean>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false) continue;
    made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/**
 * Set the text of an element, if it is another one.
 *
 * @param {HTMLElement} at
 * @param {string} text
 */
export function say(at, text) {
  if (at.textContent !== text) at.textContent = text;
}
