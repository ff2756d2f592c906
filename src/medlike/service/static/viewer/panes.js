/** The panes of a viewer: their layout, which of them is active, and what they do together. */

import { element } from "./elements.js";
import { fitted, flipped, magnified, moved, turned, zoomed } from "./geometry.js";
import { Pane } from "./pane.js";
import { presets, sameWindow } from "./presets.js";

/** @import {Item, Options, View, Window} from "./types.js" */
/** @import {Source} from "./source.js" */

/** Part of a window's width by which a pixel of dragging changes it. */
const DRAG = 1 / 300;
/** Least and greatest width of a window. */
const WIDTHS = [1e-6, 1e9];

export class Panes {
  /**
   * @param {Item[]} items
   * @param {Source} source
   * @param {Options} options
   * @param {(name: string, detail?: object) => void} emit  Tell the page what happened.
   */
  constructor(items, source, options, emit) {
    this.emit = emit;
    this.linked = true;
    this.scheduled = 0;
    /** What is to be done with the next frame of the screen, before panes are drawn. @type {Set<() => void>} */
    this.pending = new Set();
    this.timer = 0;
    /** @type {Set<Pane>} */
    this.stale = new Set();
    this.all = items.map((item, at) => {
      /** @type {Pane} */
      const pane = new Pane(item, { at, of: items.length }, source, options, (name, detail) => {
        if (name === "draw") this.draw(pane);
        else this.emit(name, { pane: at, ...detail });
      });
      return pane;
    });
    this.active = this.all[0];
    this.element = element("div", { class: "viewer-panes", "data-panes": items.length },
      ...this.all.map((pane) => pane.element));
    this.observer = new ResizeObserver((entries) => this.fit(entries));
    for (const pane of this.all) {
      this.observer.observe(pane.element);
      pane.element.addEventListener("focus", () => this.activate(pane));
    }
    this.activate(this.active);
  }

  /** Load all images. */
  open() {
    return Promise.all(this.all.map((pane) => pane.open()));
  }

  /** @param {ResizeObserverEntry[]} entries */
  fit(entries) {
    for (const { target, contentRect } of entries) {
      const pane = this.all.find((each) => each.element === target);
      const ratio = window.devicePixelRatio || 1;
      pane?.resize(Math.round(contentRect.width * ratio), Math.round(contentRect.height * ratio), ratio);
    }
  }

  /** Do something with the next frame of the screen. @param {() => void} run */
  soon(run) {
    this.pending.add(run);
    this.schedule();
  }

  /** Draw a pane with the next frame of the screen. @param {Pane} pane */
  draw(pane) {
    this.stale.add(pane);
    this.schedule();
  }

  schedule() {
    this.scheduled ||= requestAnimationFrame(() => {
      const pending = [...this.pending];
      this.pending.clear();
      for (const run of pending) run();
      this.scheduled = 0;
      const stale = [...this.stale];
      this.stale.clear();
      for (const each of stale) each.draw();
      const restless = stale.filter((each) => each.restless);
      if (restless.length) {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => restless.forEach((each) => this.draw(each)), 250);
      }
    });
  }

  /** @param {Pane} pane */
  activate(pane) {
    this.active = pane;
    for (const each of this.all) each.element.classList.toggle("viewer-active", each === pane);
    this.emit("focus", { pane: pane.place.at });
  }

  /** Make a neighbour of the active pane active. @param {number} by */
  step(by) {
    const at = (this.active.place.at + by + this.all.length) % this.all.length;
    this.all[at].element.focus();
  }

  /** Return the panes that follow one: all if they are linked. @param {Pane} pane */
  followers(pane) {
    return this.linked ? this.all.filter((each) => each !== pane) : [];
  }

  /** Link all panes, or none; linked ones follow the active one at once. @param {boolean} linked */
  link(linked) {
    this.linked = linked;
    if (linked) this.look(this.active, this.active.view);
    this.emit("link", { linked });
  }

  /** Set the view of a pane; linked ones zoom and move with it. @param {Pane} pane @param {View} view */
  look(pane, view) {
    pane.view = view;
    pane.move();
    for (const other of this.followers(pane)) {
      other.view = { ...other.view, zoom: view.zoom, x: view.x, y: view.y };
      other.move();
    }
    this.emit("view", { pane: pane.place.at, view: { ...view } });
  }

  /** @param {number} factor @param {Pane} [pane] @param {number} [x] @param {number} [y]  On its canvas. */
  zoom(factor, pane = this.active, x, y) {
    if (!pane.frame) return;
    this.look(pane, zoomed(pane.view, factor, pane.frame, pane.canvas.width, pane.canvas.height, x, y));
  }

  /** @param {number} dx  Pixels of the canvas. @param {number} dy @param {Pane} [pane] */
  pan(dx, dy, pane = this.active) {
    if (!pane.frame) return;
    this.look(pane, moved(pane.view, dx, dy, pane.frame, pane.canvas.width, pane.canvas.height));
  }

  /** @param {Pane} [pane] */
  fitPane(pane = this.active) {
    this.look(pane, { ...pane.view, zoom: 1, x: 0, y: 0 });
  }

  /** Show each pixel of the frame as one of the screen. */
  actual() {
    const { frame, view, canvas } = this.active;
    if (!frame) return;
    this.look(this.active, magnified({ ...view, x: 0, y: 0 }, 1, frame, canvas.width, canvas.height));
  }

  /** Turn the active pane by quarters, clockwise. @param {number} quarters */
  turn(quarters) {
    this.active.view = turned(this.active.view, quarters);
    this.active.move();
  }

  /** @param {boolean} upright  Flip from top to bottom, else from left to right. */
  flip(upright) {
    this.active.view = flipped(this.active.view, upright);
    this.active.move();
  }

  /** Show dark what is bright in the active pane. */
  invert() {
    this.active.inverted = !this.active.inverted;
    this.active.retone();
    this.active.move();
    this.emit("invert", { pane: this.active.place.at, inverted: this.active.inverted });
  }

  /** Show the active pane, and those linked to it, as at first. */
  reset() {
    for (const pane of [this.active, ...this.followers(this.active)]) {
      pane.inverted = false;
      pane.view = fitted();
      pane.setWindow(null);
    }
    this.emit("view", { pane: this.active.place.at, view: fitted() });
    this.tell(this.active);
  }

  /**
   * Change the window of a pane as by dragging; linked panes follow.
   *
   * @param {number} dx  To the right: wider.
   * @param {number} dy  Downwards: brighter.
   * @param {Pane} [pane]
   */
  drag(dx, dy, pane = this.active) {
    const before = pane.dragged ?? pane.currentWindow();
    if (!before) return;
    const width = Math.min(Math.max(before.width * Math.exp(2 * dx * DRAG), WIDTHS[0]), WIDTHS[1]);
    const center = before.center - dy * DRAG * before.width;
    const window = { ...before, width, center };
    this.shade(pane, rounded(window));
    // Not rounded, so that slow dragging adds up.
    pane.dragged = window;
  }

  /**
   * Set the window of a pane. Linked panes of its modality take the same one, others one that has changed alike.
   *
   * @param {Pane} pane
   * @param {Window | null} window  Null for what is shown by default.
   */
  shade(pane, window) {
    const before = pane.currentWindow();
    if (!before) return;
    pane.setWindow(window);
    for (const other of this.followers(pane)) {
      const own = other.currentWindow();
      if (!own) continue;
      if (window === null || other.modality === pane.modality) {
        other.setWindow(window);
      } else if (!sameWindow(before, window)) {
        const width = (own.width * window.width) / before.width;
        const center = own.center + ((window.center - before.center) / before.width) * own.width;
        other.setWindow({ ...own, width, center });
      }
    }
    this.tell(pane);
  }

  /** @param {Pane} pane */
  tell(pane) {
    this.emit("window", { pane: pane.place.at, window: pane.window, shown: pane.currentWindow() });
  }

  /** Choose a window of the active pane by its place in the list. @param {number} at */
  choose(at) {
    const choice = presets(this.active.frame, this.active.modality)[at];
    if (choice) this.shade(this.active, choice.window);
  }

  /**
   * Show another frame of the active file, or another slice.
   *
   * @param {number} by  How many further; infinities lead to the ends.
   * @param {Pane} [pane]
   */
  scroll(by, pane = this.active) {
    const { frame, item } = pane;
    const slices = item.slices?.length ?? 0;
    if (slices > 1) {
      const at = within(pane.slice + by, slices);
      if (at === pane.slice) return;
      pane.show(at, null);
      pane.prefetch(item.slices?.[within(at + Math.sign(by), slices)] ?? item.id, null);
    } else if (frame && frame.frames > 1) {
      // Frames that are still on their way count.
      const before = pane.wanted ?? frame.frame;
      const at = within(before + by, frame.frames);
      if (at === before) return;
      pane.show(pane.slice, at);
      pane.prefetch(item.id, within(at + Math.sign(by), frame.frames));
    }
  }

  /** Return whether the wheel leads through frames or slices of a pane. @param {Pane} pane */
  scrolls(pane) {
    return (pane.item.slices?.length ?? 0) > 1 || (pane.frame?.frames ?? 1) > 1;
  }

  /** Measure the pixel at a place of the canvas. @param {Pane} pane @param {number} x @param {number} y */
  measure(pane, x, y) {
    pane.element.classList.remove("viewer-measuring");
    pane.cursor = pane.pixelAt(x, y);
    pane.write();
  }

  /** Measure a neighbour of the pixel that was measured last. @param {number} dx @param {number} dy */
  measureBy(dx, dy) {
    const pane = this.active;
    if (!pane.frame) return;
    const { width, height } = pane.frame;
    const [x, y] = pane.cursor ?? [(width >> 1) - dx, (height >> 1) - dy];
    pane.cursor = [Math.min(Math.max(Math.floor(x) + dx, 0), width - 1), Math.min(Math.max(Math.floor(y) + dy, 0), height - 1)];
    pane.element.classList.add("viewer-measuring");
    pane.write();
  }

  /** Smooth the pictures, or show their pixels. @param {boolean} smooth */
  smoothen(smooth) {
    for (const pane of this.all) {
      pane.smooth = smooth;
      this.draw(pane);
    }
  }

  /** Let go of all panes. */
  close() {
    cancelAnimationFrame(this.scheduled);
    clearTimeout(this.timer);
    this.observer.disconnect();
    for (const pane of this.all) pane.close();
  }
}

/** @param {number} at @param {number} of */
function within(at, of) {
  return Math.min(Math.max(at, 0), of - 1);
}

/**
 * Return a window of whole numbers where that is no loss: it can be read, and set again.
 *
 * @param {Window} window
 * @returns {Window}
 */
function rounded(window) {
  const places = window.width > 100 ? 1 : 10 ** (3 - Math.floor(Math.log10(window.width)));
  const round = (/** @type {number} */ value) => Math.round(value * places) / places;
  return { ...window, width: Math.max(round(window.width), WIDTHS[0]), center: round(window.center) };
}
