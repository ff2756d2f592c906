/** Windows to choose from: those of the file, and for CT those that radiologists use. */

import { words } from "./words.js";

/** @import {Frame, Window} from "./types.js" */

/** Center and width in Hounsfield units. */
const CT = /** @type {const} */ ({ lung: [-600, 1500], bone: [400, 1800], brain: [40, 80], soft: [40, 400] });

/**
 * Return the windows to choose from: key, name, and the window; null stands for what is shown by default.
 *
 * @param {Frame | null} frame
 * @param {string | undefined} modality
 * @returns {{key: string, name: string, window: Window | null}[]}
 */
export function presets(frame, modality) {
  if (frame?.kind !== "grey") return [];
  const choices = [{ key: "file", name: words.presets.file, window: /** @type {Window | null} */ (null) }];
  if (modality === "CT") {
    for (const [key, [center, width]] of Object.entries(CT)) {
      const name = words.presets[/** @type {keyof typeof CT} */ (key)];
      choices.push({ key, name, window: { center, width, function: "LINEAR" } });
    }
  }
  // The first window of the file is shown by default, unless it shows nothing or there is a look-up table.
  const first = frame.shading.kind === "window" ? frame.shading : null;
  frame.photometry.windows.forEach((window, at) => {
    const shown = first && window.center === first.center && window.width === first.width;
    if (!shown && window.width > 0) choices.push({ key: `file ${at + 1}`, name: words.fileWindow(at + 1), window });
  });
  return choices;
}

/**
 * Return whether two windows are the same; null is equal to null alone.
 *
 * @param {Window | null} one
 * @param {Window | null} other
 */
export function sameWindow(one, other) {
  if (one === null || other === null) return one === other;
  return one.center === other.center && one.width === other.width && one.function === other.function;
}
