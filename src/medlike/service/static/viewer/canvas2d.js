/** Draw frames without WebGL: a table from the steps of the window, applied to the stored values, exact as well. */

/** @import {Frame, Grey, Matrix, Painter, Quality, Tones} from "./types.js" */

/** Pixels that are worked out beyond those of the pane while something moves. */
const SPARE = 1.5;

/**
 * Return a painter for a canvas.
 *
 * @param {HTMLCanvasElement} canvas  One that has no context yet.
 * @returns {Painter}
 */
export function canvasPainter(canvas) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  /** The frame as it is shown, in its own size or in every so manieth pixel of it. */
  const shown = document.createElement("canvas");
  const inner = /** @type {CanvasRenderingContext2D} */ (shown.getContext("2d", { alpha: false }));
  /** @type {Frame | null} */
  let frame = null;
  /** @type {ImageData | null} */
  let data = null;
  /** What `shown` was made with. @type {[Tones | null, number]} */
  let made = [null, 0];
  let again = () => {};

  /** @param {Frame} next */
  function load(next) {
    frame = next;
    made = [null, 0];
  }

  /** @param {Grey} grey @param {Tones} tones @param {number} step */
  function fill(grey, tones, step) {
    const width = Math.ceil(grey.width / step);
    const height = Math.ceil(grey.height / step);
    if (data?.width !== width || data.height !== height) {
      data = new ImageData(width, height);
      [shown.width, shown.height] = [width, height];
    }
    shade(grey, tones, step, new Uint32Array(data.data.buffer));
    inner.putImageData(data, 0, 0);
    made = [tones, step];
  }

  /** @param {Tones | null} tones @param {Matrix} matrix @param {Quality} quality */
  function draw(tones, matrix, quality) {
    again = () => { made = [null, 0]; draw(tones, matrix, quality); };
    if (!frame) return;
    const scale = Math.hypot(matrix[0], matrix[1]);
    // Of a frame larger than its pane only every so manieth pixel is worked out while something moves.
    const step = quality === "nearest" ? Math.max(1, Math.floor(1 / (scale * SPARE))) : 1;
    if (frame.kind === "grey" && tones && (made[0] !== tones || made[1] !== step)) fill(frame, tones, step);
    const picture = frame.kind === "colour" ? frame.bitmap : shown;
    const by = frame.kind === "colour" ? 1 : step;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(matrix[0] * by, matrix[1] * by, matrix[2] * by, matrix[3] * by, matrix[4], matrix[5]);
    context.imageSmoothingEnabled = quality === "smooth" && Math.abs(scale - 1) > 1e-6;
    context.imageSmoothingQuality = scale < 1 ? "medium" : "low";
    context.drawImage(picture, 0, 0);
  }

  return {
    kind: "canvas2d",
    load,
    draw,
    time() {
      const begun = performance.now();
      again();
      context.getImageData(0, 0, 1, 1);
      return performance.now() - begun;
    },
    close() {
      canvas.width = shown.width = 0;
    },
  };
}

/**
 * Shade the stored values of a frame.
 *
 * @param {Grey} grey
 * @param {Tones} tones
 * @param {number} step  Only every so manieth row and column.
 * @param {Uint32Array} out  A pixel of RGBA for each.
 */
export function shade(grey, tones, step, out) {
  const { samples, width, height } = grey;
  const table = samples instanceof Float32Array ? null : tableOf(grey, tones);
  let at = 0;
  for (let y = 0; y < height; y += step) {
    const end = (y + 1) * width;
    if (table) for (let from = y * width; from < end; from += step) out[at++] = table[samples[from] - grey.lowest];
    else for (let from = y * width; from < end; from += step) out[at++] = pixel(levelOf(samples[from], tones));
  }
}

/**
 * Return what is shown of each stored value from the lowest on.
 *
 * @param {Grey} grey
 * @param {Tones} tones
 */
function tableOf(grey, tones) {
  const table = new Uint32Array(grey.highest - grey.lowest + 1);
  for (let at = 0; at < table.length; at++) table[at] = pixel(levelOf(grey.lowest + at, tones));
  return table;
}

/**
 * Return the grey level of a stored value, 0 to 255.
 *
 * @param {number} value
 * @param {Tones} tones
 */
export function levelOf(value, tones) {
  const { padding, steps, table, units } = tones;
  if (padding && value >= padding[0] && value <= padding[1]) return 0;
  let level = 0;
  const entries = table ?? units;
  if (entries) {
    const entry = entries[Math.min(Math.max(value - tones.first, 0), entries.length - 1)];
    if (table) level = entry;
    else value = entry;
  }
  if (!table) {
    value *= tones.sign;
    for (let part = 128; part > 0; part >>= 1) if (value >= steps[level + part - 1]) level += part;
  }
  return tones.inverted ? 255 - level : level;
}

/** @param {number} level */
function pixel(level) {
  return (0xff000000 | (level * 0x010101)) >>> 0;
}
