// Elements of the page. Texts become text nodes: nothing that comes from a file is ever read as HTML.

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [properties] `on…` are listeners, `data` an object of data attributes, the rest
 *   attributes; true sets one without a value, false, null and undefined none.
 * @param {...(Node | string | number | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (["value", "checked", "disabled", "hidden", "selected"].includes(name)) /** @type {any} */ (element)[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map((child) =>
    child instanceof Node ? child : String(child)));
  return element;
}

/**
 * Replace what an element holds.
 * @param {HTMLElement} parent
 * @param {...(Node | string | null | undefined | false)} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== false));
}

/**
 * Draw, and put the focus back on the element with the same `data-key`.
 * @param {() => void} draw
 */
export function keepingFocus(draw) {
  const active = document.activeElement;
  const key = active instanceof HTMLElement ? active.dataset.key : undefined;
  draw();
  if (!key || document.activeElement !== document.body) return;
  const again = [...document.querySelectorAll("[data-key]")].find((each) => /** @type {HTMLElement} */ (each).dataset.key === key);
  /** @type {HTMLElement | undefined} */ (again)?.focus({ preventScroll: true });
}

/**
 * Return the element with an id that the shell of the page has.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/**
 * Say something to those who hear the page.
 * @param {string} sentence
 */
export function announce(sentence) {
  const live = byId("live");
  live.textContent = "";
  live.textContent = sentence;
}

/**
 * Place a box over a picture, in percent of its frame.
 * @param {HTMLElement} element
 * @param {number[]} box x0, y0, x1, y1 in pixels of the picture
 * @param {number[]} size width and height of the picture
 * @param {boolean} square True if the frame is square and the picture lies centred in it.
 */
export function place(element, box, size, square) {
  const [width, height] = size;
  const across = square ? Math.max(width, height) : width, down = square ? Math.max(width, height) : height;
  const left = (across - width) / 2, top = (down - height) / 2;
  element.style.left = `${(100 * (box[0] + left)) / across}%`;
  element.style.top = `${(100 * (box[1] + top)) / down}%`;
  element.style.width = `${(100 * (box[2] - box[0])) / across}%`;
  element.style.height = `${(100 * (box[3] - box[1])) / down}%`;
}
