/** Frames from the service: previews, stored values with their photometry, and pictures in colour. */

import { words } from "./words.js";

/** @import {Frame, Grey, Colour, Samples, Photometry, Shading} from "./types.js" */

/** Bytes of decoded frames that one viewer keeps. */
const KEPT = 256 * 2 ** 20;
/** @type {Record<string, new (buffer: ArrayBuffer) => Samples>} */
const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array };
const BITMAP = /** @type {const} */ ({ colorSpaceConversion: "none", premultiplyAlpha: "none" });

/** The pixels of an image are gone; its preview may be there. */
export class PixelsGone extends Error {}

/** Where a viewer gets its images from. */
export class Source {
  /**
   * @param {string} base  Address of the API.
   * @param {string | undefined} archive
   */
  constructor(base, archive) {
    this.base = base;
    this.archive = archive;
    this.stopping = new AbortController();
    /** @type {Map<string, Promise<Frame>>} */
    this.frames = new Map();
    /** @type {Map<string, number>} */
    this.sizes = new Map();
  }

  /** Stop all transfers and forget all frames. */
  close() {
    this.stopping.abort();
    this.frames.clear();
    this.sizes.clear();
  }

  /**
   * Return what the service knows of an image.
   *
   * @param {string} id
   * @returns {Promise<{metadata: Record<string, string | number>, size: number[], frame: number, frames: number}>}
   */
  async facts(id) {
    return (await this.get(id, "")).json();
  }

  /**
   * Return a preview of an image.
   *
   * @param {string} id
   * @param {"thumbnail" | "picture"} form  Small, or as large as there is one.
   * @returns {Promise<Colour>}
   */
  async preview(id, form) {
    const response = await this.get(id, `/${form}`, form === "thumbnail" ? { size: 512 } : {});
    return coloured(await createImageBitmap(await response.blob()), { frame: 0, frames: 1, aspect: 1 });
  }

  /**
   * Return a frame, from those kept if it is among them.
   *
   * @param {string} id
   * @param {number | null} number  Of the frame; null for the image's own.
   * @returns {Promise<Frame>}
   */
  frame(id, number) {
    const key = `${id} ${number ?? ""}`;
    let frame = this.frames.get(key);
    if (frame) {
      this.frames.delete(key);
    } else {
      frame = this.fetched(id, number);
      frame.then(
        (loaded) => {
          const bytes = loaded.kind === "grey" ? loaded.samples.BYTES_PER_ELEMENT : 4;
          this.keep(key, loaded.width * loaded.height * bytes);
        },
        () => this.frames.delete(key),
      );
    }
    this.frames.set(key, frame);
    return frame;
  }

  /**
   * Note the size of a frame, and forget those that were not used for the longest time.
   *
   * @param {string} key
   * @param {number} bytes
   */
  keep(key, bytes) {
    this.sizes.set(key, bytes);
    let total = [...this.frames.keys()].reduce((sum, each) => sum + (this.sizes.get(each) ?? 0), 0);
    for (const each of this.frames.keys()) {
      if (total <= KEPT || each === key) break;
      total -= this.sizes.get(each) ?? 0;
      this.frames.delete(each);
      this.sizes.delete(each);
    }
  }

  /**
   * @param {string} id
   * @param {number | null} number
   * @returns {Promise<Frame>}
   */
  async fetched(id, number) {
    /** @type {Record<string, number>} */
    const which = number === null ? {} : { frame: number };
    // The pixels are asked for at once; for colour, whose shown form is asked for next, they are not read.
    const unread = new AbortController();
    const body = this.get(id, "/pixels", which, unread.signal);
    body.catch(() => {});
    const facts = await (await this.get(id, "/photometry", which)).json();
    const common = { frame: facts.frame, frames: facts.frames, aspect: aspect(facts.spacing) };
    if (facts.shape.length === 3) {
      unread.abort();
      const shown = await this.get(id, "/rendered", which);
      return coloured(await createImageBitmap(await shown.blob(), BITMAP), common);
    }
    const buffer = await (await body).arrayBuffer();
    const stored = new ARRAYS[facts.type](buffer);
    return { ...measured(stored, facts.photometry), ...common, kind: "grey", height: facts.shape[0], width: facts.shape[1],
      stored, photometry: facts.photometry, shading: facts.shading };
  }

  /**
   * @param {string} id
   * @param {string} form
   * @param {Record<string, string | number>} [parameters]
   * @param {AbortSignal} [signal]
   * @returns {Promise<Response>}
   */
  async get(id, form, parameters = {}, signal) {
    const address = new URL(`${this.base}/images/${encodeURIComponent(id)}${form}`, document.baseURI);
    for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, String(value));
    if (this.archive !== undefined) address.searchParams.set("archive", this.archive);
    const stop = signal ? AbortSignal.any([signal, this.stopping.signal]) : this.stopping.signal;
    const response = await fetch(address, { signal: stop, credentials: "same-origin" });
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({}));
    const detail = typeof problem.detail === "string" ? problem.detail : words.noAnswer(response.status);
    throw response.status === 410 ? new PixelsGone(detail) : new Error(detail);
  }
}

/**
 * @param {ImageBitmap} bitmap
 * @param {{frame: number, frames: number, aspect: number}} common
 * @returns {Colour}
 */
function coloured(bitmap, common) {
  return { kind: "colour", width: bitmap.width, height: bitmap.height, bitmap, ...common };
}

/**
 * Return the height of a pixel by its width, 1 for those that are square within a hundredth.
 *
 * @param {[number, number] | null} spacing
 */
function aspect(spacing) {
  const by = spacing ? spacing[0] / spacing[1] : 1;
  return Number.isFinite(by) && by > 0 && Math.abs(by - 1) > 0.01 ? by : 1;
}

/**
 * Return the range of stored values and which of them are padding. NaN becomes the lowest value that is no padding,
 * infinities become the ends of the range, as when medlike renders.
 *
 * @param {Samples} stored
 * @param {Photometry} photometry
 * @returns {{samples: Samples, lowest: number, highest: number, padding: [number, number] | null}}
 */
export function measured(stored, photometry) {
  const floats = stored instanceof Float32Array;
  let padding = photometry.padding;
  // Floats of 32 bits are compared as such.
  if (padding && floats) padding = [Math.fround(padding[0]), Math.fround(padding[1])];
  let range = rangeOf(stored, padding);
  if (range === null) [padding, range] = [null, rangeOf(stored, null)];
  const [low, high] = range ?? [0, 0];
  let samples = stored;
  if (floats && !stored.every(Number.isFinite)) {
    samples = stored.map((value) => (Number.isFinite(value) ? value : value === Infinity ? high : low));
  }
  if (padding === null || floats) return { samples, lowest: low, highest: high, padding };
  const [lowest, highest] = rangeOf(stored, null) ?? [0, 0];
  return { samples, lowest, highest, padding };
}

/**
 * @param {Samples} values
 * @param {[number, number] | null} padding
 * @returns {[number, number] | null}  Of what is no padding and a number; null if nothing is.
 */
function rangeOf(values, padding) {
  let [low, high] = [Infinity, -Infinity];
  const [from, to] = padding ?? [Infinity, -Infinity];
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    if ((value >= from && value <= to) || !(value - value === 0)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}
