/**
 * The compare viewer: 1 to 8 images side by side on their stored values, with the window of a radiologist's choice.
 *
 * It draws what medlike renders, pixel by pixel. `openViewer` is its one door.
 */

import { element } from "./elements.js";
import { attachGestures } from "./gestures.js";
import { attachKeys, SHORTCUTS } from "./keyboard.js";
import { Panes } from "./panes.js";
import { Source } from "./source.js";
import { toolbar } from "./toolbar.js";
import { useWords, words } from "./words.js";

/** @import {Item, Options, Window} from "./types.js" */

export { SHORTCUTS };

/** Most images at once. */
const MOST = 8;

/**
 * A viewer that is open. Its events, with what their `detail` holds besides `pane`:
 *
 * - preview, loaded: the preview, or the pixels of an image are there (id)
 * - failed: an image cannot be shown on its pixels (id, detail)
 * - window: it was changed (window: null for the default; shown: what is shown)
 * - view: zoomed or moved (view); invert (inverted); frame (id, frame); focus; link (linked)
 * - dismiss: Escape was pressed; the page decides whether to close the viewer
 */
export class Viewer extends EventTarget {
  /**
   * @param {HTMLElement} container
   * @param {Item[]} items
   * @param {Options} options
   */
  constructor(container, items, options) {
    super();
    this.source = new Source(options.base ?? "/api/v1", options.archive);
    this.element = element("section", { class: "viewer", "aria-label": words.viewer });
    this.refresh = () => {};
    this.panes = new Panes(items, this.source, options, (name, detail) => this.tell(name, detail));
    const tools = toolbar(this.element, this.panes);
    this.refresh = tools.refresh;
    this.element.append(tools.element, this.panes.element, tools.help);
    this.keys = attachKeys(this.element, this.panes, tools.switches);
    attachGestures(this.panes, this.keys);
    container.append(this.element);
    this.refresh();
    /** Settled once every image is shown, or has said why not. @type {Promise<void>} */
    this.ready = this.panes.open().then(() => {});
  }

  /** @param {string} name @param {object} [detail] */
  tell(name, detail) {
    if (name !== "view") this.refresh();
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /**
   * Set a window; linked panes follow.
   *
   * @param {{center: number, width: number, function?: string} | null} window  Null for the default of the file.
   * @param {number} [pane]  By default the active one.
   */
  setWindow(window, pane = this.panes.active.place.at) {
    if (window && !(window.width > 0 && Number.isFinite(window.width) && Number.isFinite(window.center))) {
      throw new RangeError(words.noWindow(window.width, window.center));
    }
    this.panes.shade(this.panes.all[pane], window && { function: "LINEAR", ...window });
  }

  /** Focus the active pane, so that keys reach it. */
  focus() {
    this.panes.active.element.focus();
  }

  /** Close the viewer: remove it from the page, and stop what it loads. */
  close() {
    this.keys.close();
    this.source.close();
    this.panes.close();
    this.element.remove();
  }
}

/**
 * Open a viewer.
 *
 * @param {HTMLElement} container  It is appended to it; the page sets its size.
 * @param {(string | Item)[]} ids  1 to 8 public ids, or items with title, modality, boxes and slices.
 * @param {Options} [options]
 * @returns {Viewer}
 */
export function openViewer(container, ids, options = {}) {
  if (options.words) useWords(options.words);
  if (ids.length < 1 || ids.length > MOST) throw new RangeError(words.limits(ids.length));
  const items = ids.map((each) => (typeof each === "string" ? { id: each } : each));
  return new Viewer(container, items, options);
}
