/** Where a frame lies in its pane: from a view to a matrix, and back from a place in the pane to a pixel. */

/** @import {View, Matrix} from "./types.js" */

/** The least lets an image of a few pixels be shown 1:1. */
export const ZOOMS = [1 / 256, 64];

/** @returns {View} A view that fits the frame into its pane. */
export function fitted() {
  return { zoom: 1, x: 0, y: 0, turns: 0, mirrored: false };
}

/**
 * Return the size of a frame on square pixels: [width, height].
 *
 * @param {{width: number, height: number, aspect: number}} frame
 * @returns {[number, number]}
 */
function squared(frame) {
  return [frame.width, frame.height * frame.aspect];
}

/**
 * Return how many pixels of the pane a column of the frame takes at zoom 1.
 *
 * @param {{width: number, height: number, aspect: number}} frame
 * @param {number} width  Of the pane, in its pixels.
 * @param {number} height
 * @param {number} turns
 */
export function fit(frame, width, height, turns) {
  const [across, down] = squared(frame);
  return turns % 2 ? Math.min(width / down, height / across) : Math.min(width / across, height / down);
}

/**
 * Return the matrix from pixels of the frame to pixels of the pane.
 *
 * @param {View} view
 * @param {{width: number, height: number, aspect: number}} frame
 * @param {number} width  Of the pane.
 * @param {number} height
 * @returns {Matrix}
 */
export function matrix(view, frame, width, height) {
  const scale = fit(frame, width, height, view.turns) * view.zoom;
  const [across, down] = squared(frame);
  const longest = Math.max(across, down) * scale;
  const [cos, sin] = [[1, 0], [0, 1], [-1, 0], [0, -1]][view.turns];
  const flip = view.mirrored ? -1 : 1;
  const [a, b] = [cos * scale * flip, sin * scale * flip];
  const [c, d] = [-sin * scale * frame.aspect, cos * scale * frame.aspect];
  // The corner of the frame falls on a corner of a pixel, so that at zoom 1:1 pixels are shown exactly.
  const e = Math.round(width / 2 + view.x * longest - (a * frame.width + c * frame.height) / 2);
  const f = Math.round(height / 2 + view.y * longest - (b * frame.width + d * frame.height) / 2);
  return [a, b, c, d, e, f];
}

/**
 * Return the place of a point under a matrix.
 *
 * @param {Matrix} m
 * @param {number} x
 * @param {number} y
 * @returns {[number, number]}
 */
export function placed(m, x, y) {
  return [m[0] * x + m[2] * y + m[4], m[1] * x + m[3] * y + m[5]];
}

/**
 * Return the matrix that undoes a matrix.
 *
 * @param {Matrix} m
 * @returns {Matrix}
 */
export function inverse([a, b, c, d, e, f]) {
  const by = a * d - b * c;
  return [d / by, -b / by, -c / by, a / by, (c * f - d * e) / by, (b * e - a * f) / by];
}

/**
 * Return a view zoomed by a factor about a place of the pane, which stays where it is.
 *
 * @param {View} view
 * @param {number} factor
 * @param {{width: number, height: number, aspect: number}} frame
 * @param {number} width  Of the pane.
 * @param {number} height
 * @param {number} [x]  The place, by default the middle.
 * @param {number} [y]
 * @returns {View}
 */
export function zoomed(view, factor, frame, width, height, x = width / 2, y = height / 2) {
  const zoom = Math.min(Math.max(view.zoom * factor, ZOOMS[0]), ZOOMS[1]);
  const longest = Math.max(...squared(frame)) * fit(frame, width, height, view.turns) * view.zoom;
  // In longest sides: the place from the middle, and how far the pixel under it lies from the middle of the frame.
  const [right, down] = [(x - width / 2) / longest, (y - height / 2) / longest];
  const by = view.zoom / zoom;
  return { ...view, zoom, x: right * by - (right - view.x), y: down * by - (down - view.y) };
}

/**
 * Return a view moved by pixels of the pane. At least a part of the frame stays in reach.
 *
 * @param {View} view
 * @param {number} dx
 * @param {number} dy
 * @param {{width: number, height: number, aspect: number}} frame
 * @param {number} width  Of the pane.
 * @param {number} height
 * @returns {View}
 */
export function moved(view, dx, dy, frame, width, height) {
  const longest = Math.max(...squared(frame)) * fit(frame, width, height, view.turns) * view.zoom;
  const within = (/** @type {number} */ at, /** @type {number} */ side) => {
    const most = (side / 2 + longest / 2) / longest;
    return Math.min(Math.max(at, -most), most);
  };
  return { ...view, x: within(view.x + dx / longest, width), y: within(view.y + dy / longest, height) };
}

/**
 * Return a view turned clockwise by quarters about the middle of the pane.
 *
 * @param {View} view
 * @param {number} quarters  1 or -1.
 * @returns {View}
 */
export function turned(view, quarters) {
  const [x, y] = quarters > 0 ? [-view.y, view.x] : [view.y, -view.x];
  return { ...view, x, y, turns: (view.turns + quarters + 4) % 4 };
}

/**
 * Return a view flipped as it is seen.
 *
 * @param {View} view
 * @param {boolean} upright  From top to bottom, else from left to right.
 * @returns {View}
 */
export function flipped(view, upright) {
  // A flip of what is seen is a flip before the turn, and the turn the other way round.
  const turns = (4 - view.turns + (upright ? 2 : 0)) % 4;
  const [x, y] = upright ? [view.x, -view.y] : [-view.x, view.y];
  return { ...view, x, y, turns, mirrored: !view.mirrored };
}

/**
 * Return a view at which a column of the frame takes as many pixels of the pane as given.
 *
 * @param {View} view
 * @param {number} pixels
 * @param {{width: number, height: number, aspect: number}} frame
 * @param {number} width  Of the pane.
 * @param {number} height
 * @returns {View}
 */
export function magnified(view, pixels, frame, width, height) {
  return zoomed(view, pixels / fit(frame, width, height, view.turns) / view.zoom, frame, width, height);
}
