/**
 * Grey levels of stored values, equal to those of medlike.imaging.rendering bit by bit.
 *
 * A window is monotone in what it is applied to, so 255 steps say all of it: grey level k begins at step k. They are
 * found in the floats of 64 bits that medlike computes in; a painter only compares with them, and is exact wherever it
 * computes. A new window is 255 numbers, and no table of 65,536.
 */

/** @import {Grey, Guess, Lut, Photometry, Shading, Tones, Window} from "./types.js" */

/**
 * Return the modality units of a stored value.
 *
 * @param {Photometry} photometry
 * @param {number} stored
 */
export function unitsOf(photometry, stored) {
  if (photometry.modality_lut) return lookedUp(photometry.modality_lut, stored);
  return stored * photometry.slope + photometry.intercept;
}

/**
 * Return the lowest and the highest modality units that a frame can have.
 *
 * @param {Grey} frame
 * @returns {[number, number]}
 */
export function unitRange(frame) {
  const lut = frame.photometry.modality_lut;
  if (lut) {
    const entries = unitsTable(lut);
    return [entries.reduce((a, b) => Math.min(a, b)), entries.reduce((a, b) => Math.max(a, b))];
  }
  const ends = [unitsOf(frame.photometry, frame.lowest), unitsOf(frame.photometry, frame.highest)];
  return [Math.min(...ends), Math.max(...ends)];
}

/**
 * Return the window that shows about what a shading shows; dragging begins from it.
 *
 * @param {Shading} shading
 * @param {Grey} frame
 * @returns {Window}
 */
export function windowOf(shading, frame) {
  if (shading.kind === "window") return { center: shading.center, width: shading.width, function: shading.function };
  let [low, high] = shading.kind === "range" ? [shading.low, shading.high] : [0, 0];
  const lut = frame.photometry.voi_lut;
  if (shading.kind === "voi_lut" && lut) [low, high] = [lut.first, lut.first + lut.entries.length - 1];
  return { center: (low + high) / 2, width: Math.max(high - low, 1e-6), function: "LINEAR_EXACT" };
}

/**
 * Return the tones of a frame.
 *
 * @param {Grey} frame
 * @param {Window | null} window  In place of what is shown by default.
 * @param {boolean} inverted  Show dark what is bright otherwise.
 * @returns {Tones}
 */
export function tones(frame, window, inverted) {
  const { photometry, padding } = frame;
  const floats = frame.samples instanceof Float32Array;
  /** @type {Shading} */
  let shading = frame.shading;
  if (window) {
    // LINEAR leaves half a step on each side of whole numbers, which makes no sense for floats.
    const exact = floats && window.function === "LINEAR";
    shading = { kind: "window", ...window, function: exact ? "LINEAR_EXACT" : window.function };
  }
  const lut = photometry.modality_lut;
  const sign = photometry.slope < 0 && !lut ? -1 : 1;
  const guess = lut ? guessed(shading, 1, 0) : guessed(shading, sign * photometry.slope, photometry.intercept);
  /** @type {Omit<Tones, "steps">} */
  const plain = { sign, guess, inverted: photometry.inverted !== inverted, padding, table: null, units: null, first: 0 };
  if (shading.kind === "voi_lut" && photometry.voi_lut) {
    return { ...plain, steps: new Int32Array(256), table: levels(frame, photometry.voi_lut), first: frame.lowest };
  }
  if (lut) {
    const steps = wholeSteps((value) => grey(shading, value), 0, 2 ** 16);
    return { ...plain, steps, units: unitsTable(lut), first: lut.first };
  }
  const level = (/** @type {number} */ value) => grey(shading, unitsOf(photometry, sign * value));
  if (floats) return { ...plain, steps: floatSteps(level) };
  return { ...plain, steps: wholeSteps(level, -(2 ** 16), 2 ** 16) };
}

/**
 * Return about how grey levels follow from values.
 *
 * @param {Shading} shading
 * @param {number} slope  From a value to modality units.
 * @param {number} intercept
 * @returns {Guess}
 */
function guessed(shading, slope, intercept) {
  if (shading.kind === "voi_lut") return { slope: 0, offset: 0, curved: false };
  if (shading.kind === "range") return line(slope, intercept, shading.low, shading.high, 255, false);
  const { center, width } = shading;
  if (shading.function === "SIGMOID") return line(slope, intercept, center, center + width, 4, true);
  const half = shading.function === "LINEAR" && width > 1 ? 0.5 : 0;
  return line(slope, intercept, center - half - (width / 2 - half), center - half + (width / 2 - half), 255, false);
}

/**
 * @param {number} slope
 * @param {number} intercept
 * @param {number} low  Modality units that are 0.
 * @param {number} high  Modality units that are `top`.
 * @param {number} top
 * @param {boolean} curved
 * @returns {Guess}
 */
function line(slope, intercept, low, high, top, curved) {
  const by = top / Math.max(high - low, 1e-9);
  return { slope: slope * by, offset: (intercept - low) * by, curved };
}

/**
 * Return the grey level of modality units under a window or a range, before it is inverted.
 *
 * @param {Shading} shading
 * @param {number} units
 */
function grey(shading, units) {
  if (shading.kind === "range") return spread(units, shading.low, shading.high);
  if (shading.kind !== "window") throw new Error("a look-up table is no window");
  const { center, width } = shading;
  if (shading.function === "SIGMOID") {
    const power = Math.min(Math.max((-4 * (units - center)) / width, -700), 700);
    return Math.floor(255 / (1 + Math.exp(power)) + 0.5);
  }
  if (shading.function === "LINEAR_EXACT" || width < 1) return spread(units, center - width / 2, center + width / 2);
  if (width === 1) return units <= center - 0.5 ? 0 : 255;
  return spread(units, center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2);
}

/**
 * @param {number} units
 * @param {number} low
 * @param {number} high
 */
function spread(units, low, high) {
  if (!(high > low)) return units > low ? 255 : 0;
  return Math.floor(Math.min(Math.max((units - low) * (255 / (high - low)), 0), 255) + 0.5);
}

/**
 * @param {Lut} lut
 * @param {number} value
 */
function lookedUp(lut, value) {
  return lut.entries[Math.min(Math.max(Math.trunc(value - lut.first), 0), lut.entries.length - 1)];
}

/** @type {WeakMap<Lut, Uint16Array>} */
const unitsTables = new WeakMap();

/** @param {Lut} lut */
function unitsTable(lut) {
  let table = unitsTables.get(lut);
  if (!table) unitsTables.set(lut, (table = Uint16Array.from(lut.entries)));
  return table;
}

/** @type {WeakMap<Grey, Uint8Array>} */
const tables = new WeakMap();

/**
 * Return the grey levels of all stored values of a frame under its VOI look-up table, before they are inverted.
 *
 * @param {Grey} frame
 * @param {Lut} lut
 */
function levels(frame, lut) {
  let table = tables.get(frame);
  if (!table) {
    table = new Uint8Array(frame.highest - frame.lowest + 1);
    for (let at = 0; at < table.length; at++) {
      const units = unitsOf(frame.photometry, frame.lowest + at);
      table[at] = spread(lookedUp(lut, Math.floor(units + 0.5)), 0, 2 ** lut.bits - 1);
    }
    tables.set(frame, table);
  }
  return table;
}

/**
 * Return where each grey level begins among whole numbers.
 *
 * @param {(value: number) => number} level  Ascending.
 * @param {number} low  No value is below it.
 * @param {number} high  Every value is below it.
 * @returns {Int32Array}
 */
function wholeSteps(level, low, high) {
  const steps = new Int32Array(256);
  let [from, last, gap] = [low, level(low), 1];
  const top = level(high - 1);
  for (let k = 1; k < 256; k++) {
    if (k > top) {
      steps.fill(high, k - 1);
      break;
    }
    let [a, b] = [from, from];
    // Steps lie at about the same distance: the next one is sought near, then farther and farther away.
    for (let ahead = gap; k > last && level(b) < k; ahead *= 2) {
      a = b + 1;
      b = Math.min(b + ahead, high - 1);
    }
    while (a < b) {
      const middle = Math.floor((a + b) / 2);
      if (level(middle) >= k) b = middle;
      else a = middle + 1;
    }
    gap = Math.max(1, a - from);
    steps[k - 1] = from = a;
    last = level(a);
  }
  steps[255] = high;
  return steps;
}

const bits = new Int32Array(1);
const float = new Float32Array(bits.buffer);

/** The float of 32 bits at a place in the order of all of them. @param {number} at */
function floatAt(at) {
  bits[0] = at < 0 ? -2147483648 - at - 1 : at;
  return float[0];
}

/** Place of the largest finite float of 32 bits. */
const LARGEST = 0x7f7fffff;

/**
 * Return where each grey level begins among floats of 32 bits.
 *
 * @param {(value: number) => number} level  Ascending.
 * @returns {Float32Array}
 */
function floatSteps(level) {
  const whole = wholeSteps((at) => level(floatAt(at)), -LARGEST - 1, LARGEST + 1);
  return Float32Array.from(whole, (at) => (at > LARGEST ? Infinity : floatAt(at)));
}
