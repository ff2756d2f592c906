/** One image in its pane: what is loaded of it, how it is shown, and what is written over it. */

import { canvasPainter } from "./canvas2d.js";
import { element, say } from "./elements.js";
import { fit, fitted, inverse, matrix, placed } from "./geometry.js";
import { glPainter } from "./gl.js";
import { boxOverlay } from "./overlay.js";
import { number, readout } from "./readout.js";
import { tones, windowOf } from "./shading.js";
import { PixelsGone } from "./source.js";
import { words } from "./words.js";

/** @import {Frame, Grey, Item, Matrix, Options, Painter, Tones, Window} from "./types.js" */
/** @import {Source} from "./source.js" */

/** Milliseconds that drawing all panes may take, and those after which nothing moves any more. */
const BUDGET = 40;
const REST = 200;

export class Pane {
  /**
   * @param {Item} item
   * @param {{at: number, of: number}} place
   * @param {Source} source
   * @param {Options} options
   * @param {(name: string, detail?: object) => void} notify  Tell what happened: "draw" asks to be drawn.
   */
  constructor(item, place, source, options, notify) {
    this.item = item;
    this.source = source;
    this.options = options;
    this.place = place;
    this.notify = notify;
    this.modality = item.modality;
    this.title = item.title ?? item.id.slice(0, 8);
    /** @type {Frame | null} */
    this.frame = null;
    this.whole = false;
    /** @type {Window | null} */
    this.window = null;
    /** The window as it was dragged, before it was rounded. @type {Window | null} */
    this.dragged = null;
    this.inverted = false;
    this.view = fitted();
    this.smooth = true;
    this.slice = Math.max(0, item.slices?.indexOf(item.id) ?? 0);
    this.asked = 0;
    /** The frame that is on its way. @type {number | null} */
    this.wanted = null;
    this.moving = 0;
    this.slow = false;
    /** Pixels of the canvas for each of the page. */
    this.ratio = 1;
    this.closed = false;
    /** @type {Tones | null} */
    this.tones = null;
    /** @type {Matrix} */
    this.matrix = [1, 0, 0, 1, 0, 0];
    /** @type {[number, number] | null} */
    this.cursor = null;
    this.canvas = element("canvas");
    this.boxes = boxOverlay(item.boxes ?? []);
    this.corners = ["title", "frame", "window", "value"].map((name) => element("p", { class: `viewer-${name}` }));
    this.message = element("p", { class: "viewer-message", role: "status" }, words.loading);
    this.cross = element("div", { class: "viewer-cross", hidden: true });
    this.element = element("div", { class: "viewer-pane", role: "group", tabindex: 0 },
      this.canvas, this.boxes.element, this.cross, ...this.corners, this.message);
    this.name();
    /** @type {Painter} */
    this.painter = this.painted(options.renderer !== "canvas2d");
  }

  /** @param {boolean} accelerated @returns {Painter} */
  painted(accelerated) {
    const painter = accelerated ? glPainter(this.canvas, this.options.renderer === "webgl2") : null;
    if (painter) {
      this.canvas.addEventListener("webglcontextlost", () => { if (!this.closed) this.fallBack(); }, { once: true });
      return painter;
    }
    // A canvas on which WebGL was asked for, and is not, takes another context.
    return canvasPainter(this.canvas);
  }

  /** Go on without WebGL. */
  fallBack() {
    if (this.painter.kind === "canvas2d" || this.closed) return;
    const old = this.canvas;
    this.canvas = element("canvas");
    [this.canvas.width, this.canvas.height] = [old.width, old.height];
    old.replaceWith(this.canvas);
    const { painter } = this;
    this.painter = this.painted(false);
    painter.close();
    if (this.frame) this.painter.load(this.frame);
    this.notify("draw");
  }

  /** Load a preview first, then the pixels. */
  async open() {
    if (this.item.modality === undefined || this.item.title === undefined) this.describe();
    const early = this.source.preview(this.item.id, "thumbnail").then(
      (preview) => { if (!this.frame && !this.closed) this.take(preview, false); }, () => {});
    await early;
    await this.show(this.slice, null);
  }

  /** Fill in what the page did not say of the image. */
  async describe() {
    try {
      const { metadata } = await this.source.facts(this.item.id);
      this.modality ??= String(metadata.modality ?? "");
      this.title = this.item.title ?? ([metadata.modality, metadata.region].filter(Boolean).join(" ") || this.title);
      this.name();
      this.notify("facts");
    } catch {
      // The pixels tell what is wrong.
    }
  }

  /**
   * Show a slice, or a frame of the file.
   *
   * @param {number} slice
   * @param {number | null} frame  Null for the one that the id names.
   */
  async show(slice, frame) {
    const asked = ++this.asked;
    this.wanted = frame;
    const id = this.item.slices?.[slice] ?? this.item.id;
    this.slice = slice;
    try {
      const next = await this.source.frame(id, frame);
      if (asked !== this.asked || this.closed) return;
      this.wanted = null;
      this.take(next, true);
      this.notify("frame", { id, frame: next.frame });
    } catch (error) {
      if (asked === this.asked && !this.closed) await this.apologise(id, error);
    }
  }

  /** Load a frame that is likely to be wanted next. @param {string} id @param {number | null} frame */
  prefetch(id, frame) {
    this.source.frame(id, frame).catch(() => {});
  }

  /** @param {string} id @param {unknown} error */
  async apologise(id, error) {
    const detail = error instanceof Error ? error.message : String(error);
    this.wanted = null;
    say(this.message, words.failed(detail));
    if (error instanceof PixelsGone) {
      try {
        this.take(await this.source.preview(id, "picture"), false);
        say(this.message, words.previewed(detail));
      } catch {
        // There is no preview either: the sentence stands alone.
      }
    }
    this.notify("failed", { id, detail });
  }

  /** @param {Frame} frame @param {boolean} whole  It is the image itself, not its preview. */
  take(frame, whole) {
    const first = whole && !this.whole;
    this.frame = frame;
    this.whole = whole;
    try {
      this.painter.load(frame);
    } catch {
      this.fallBack();
    }
    this.retone();
    if (whole) say(this.message, "");
    this.notify("draw");
    if (first) this.measure();
    this.notify(whole ? "loaded" : "preview", { id: this.item.id });
  }

  /** See how fast frames are drawn, and take the other painter or fewer pixels where it is too slow. */
  measure() {
    this.draw();
    const budget = BUDGET / this.place.of;
    this.painter.time();
    if (this.painter.kind === "webgl2" && this.options.renderer === undefined) {
      if (this.painter.time() > budget) {
        this.slow = true;
        this.moving = Infinity;
        this.draw();
        if (this.painter.time() > budget) this.fallBack();
        this.moving = 0;
        this.draw();
      }
    } else {
      this.slow = this.painter.time() > budget;
    }
  }

  /** Work out the tones anew: the window, the frame or the inversion has changed. */
  retone() {
    this.tones = this.frame?.kind === "grey" ? tones(this.frame, this.window, this.inverted) : null;
  }

  /** Return the window that is shown, or null where there is none. @returns {Window | null} */
  currentWindow() {
    if (this.frame?.kind !== "grey") return null;
    return this.window ?? windowOf(this.frame.shading, this.frame);
  }

  /** @param {Window | null} window  Null for what is shown by default. */
  setWindow(window) {
    this.window = window;
    this.dragged = null;
    this.retone();
    this.move();
  }

  /** Note that something moves, so that it is drawn fast at first, and well once it rests. */
  move() {
    this.moving = performance.now() + REST;
    this.notify("draw");
  }

  /** Return whether it should be drawn again once it rests. */
  get restless() {
    return this.slow && this.moving > 0;
  }

  /**
   * Fit the canvas to its pane.
   *
   * @param {number} width  In pixels of the screen.
   * @param {number} height
   * @param {number} ratio  Pixels of the screen for each of the page.
   */
  resize(width, height, ratio) {
    this.ratio = ratio;
    if (this.canvas.width === width && this.canvas.height === height) return;
    [this.canvas.width, this.canvas.height] = [width, height];
    this.notify("draw");
  }

  /** Draw the frame and what is written over it. */
  draw() {
    const { canvas, frame } = this;
    if (!frame || !canvas.width || !canvas.height) return;
    const resting = performance.now() >= this.moving;
    if (resting) this.moving = 0;
    this.matrix = matrix(this.view, frame, canvas.width, canvas.height);
    this.painter.draw(this.tones, this.matrix, this.smooth && (resting || !this.slow) ? "smooth" : "nearest");
    // Boxes are in pixels of the image: a preview has fewer.
    if (this.whole) this.boxes.place(this.matrix, this.ratio);
    this.write();
  }

  /** Write the facts into the corners. */
  write() {
    const { frame } = this;
    if (!frame) return;
    const [title, count, window, value] = this.corners;
    say(title, this.title);
    const slices = this.item.slices?.length ?? 0;
    say(count, slices > 1 ? words.slice(this.slice + 1, slices)
      : frame.frames > 1 ? words.frame(frame.frame + 1, frame.frames) : "");
    say(window, [this.windowText(), words.zoom(number(Math.round(this.scale * 100)))].filter(Boolean).join(", "));
    say(value, this.cursor && this.whole ? readout(frame, ...this.cursor, this.modality) : "");
    this.placeCross();
  }

  /** Say which window is shown. */
  windowText() {
    if (this.frame?.kind !== "grey") return "";
    const shading = this.window ? null : this.frame.shading.kind;
    const window = /** @type {Window} */ (this.currentWindow());
    const said = shading === "voi_lut" ? words.table : words.window(number(window.width), number(window.center));
    return this.inverted ? `${said} ${words.inverted}` : said;
  }

  /** Show the measured pixel where it was chosen by keys. */
  placeCross() {
    const byKeys = this.element.classList.contains("viewer-measuring") && this.cursor !== null;
    this.cross.hidden = !byKeys;
    if (!byKeys || !this.cursor) return;
    const [x, y] = placed(this.matrix, Math.floor(this.cursor[0]) + 0.5, Math.floor(this.cursor[1]) + 0.5);
    this.cross.style.setProperty("translate", `${x / this.ratio}px ${y / this.ratio}px`);
  }

  /** Pixels of the screen for each column of the frame. */
  get scale() {
    if (!this.frame) return 1;
    return fit(this.frame, this.canvas.width, this.canvas.height, this.view.turns) * this.view.zoom;
  }

  /** Return the pixel of the frame at a place of the canvas. @param {number} x @param {number} y @returns {[number, number]} */
  pixelAt(x, y) {
    return placed(inverse(this.matrix), x, y);
  }

  /** Return the place on the canvas of a place of the page. @param {number} x @param {number} y @returns {[number, number]} */
  onCanvas(x, y) {
    const box = this.canvas.getBoundingClientRect();
    return [(x - box.left) * this.ratio, (y - box.top) * this.ratio];
  }

  /** Name the pane for those who cannot see it. */
  name() {
    this.element.setAttribute("aria-label", words.pane(this.place.at + 1, this.place.of, this.title));
    say(this.corners[0], this.title);
  }

  /** Let go of what the browser holds for it. */
  close() {
    this.closed = true;
    this.painter.close();
    this.element.remove();
  }
}
