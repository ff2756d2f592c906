/** The value of a pixel in modality units, in words. */

import { unitsOf } from "./shading.js";
import { words } from "./words.js";

/** @import {Frame} from "./types.js" */

/** @type {OffscreenCanvas | null} */
let probe = null;

/**
 * Return what is said of a pixel.
 *
 * @param {Frame} frame
 * @param {number} x  Column.
 * @param {number} y  Row.
 * @param {string | undefined} modality
 * @returns {string}  Empty outside of the frame.
 */
export function readout(frame, x, y, modality) {
  if (!(x >= 0 && y >= 0 && x < frame.width && y < frame.height)) return "";
  const [column, row] = [Math.floor(x), Math.floor(y)];
  const place = words.position(column, row);
  if (frame.kind === "colour") return `${place}: ${colourAt(frame.bitmap, column, row)}`;
  const stored = frame.stored[row * frame.width + column];
  const { padding, photometry } = frame;
  if (padding && stored >= padding[0] && stored <= padding[1]) return `${place}: ${words.padding}`;
  const units = unitsOf(photometry, stored);
  const rescaled = photometry.modality_lut !== null || photometry.slope !== 1 || photometry.intercept !== 0;
  const value = words.value(number(units), modality === "CT" ? words.hounsfield : "");
  return `${place}: ${value}${rescaled ? ` (${words.stored(number(stored))})` : ""}`;
}

/**
 * Return a number as short as it can be read without a loss that matters.
 *
 * @param {number} value
 */
export function number(value) {
  const text = Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  return text.replace("-", "\u2212");
}

/** @param {ImageBitmap} bitmap @param {number} x @param {number} y */
function colourAt(bitmap, x, y) {
  probe ??= new OffscreenCanvas(1, 1);
  const context = probe.getContext("2d", { willReadFrequently: true });
  if (!context) return "";
  context.clearRect(0, 0, 1, 1);
  context.drawImage(bitmap, -x, -y);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)].join(", ");
}
