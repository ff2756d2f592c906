/** Mouse, pen and touch: dragging, the wheel, pinching. What they do is done once for each frame of the screen. */

/** @import {Pane} from "./pane.js" */
/** @import {Panes} from "./panes.js" */

/** Pixels of the wheel that are one step. */
const NOTCH = 50;

/**
 * Attach the gestures to all panes.
 *
 * @param {Panes} panes
 * @param {{space: () => boolean}} held  Whether the space bar is down.
 */
export function attachGestures(panes, held) {
  for (const pane of panes.all) attach(panes, pane, held);
}

/** @param {Panes} panes @param {Pane} pane @param {{space: () => boolean}} held */
function attach(panes, pane, held) {
  const at = pane.element;
  /** @type {Map<number, {x: number, y: number}>} */
  const pointers = new Map();
  let panning = false;
  let wheel = 0;
  // What has gathered since the last frame of the screen.
  const gathered = { dx: 0, dy: 0, zoom: 1, x: 0, y: 0, scroll: 0, pointer: /** @type {[number, number] | null} */ (null) };

  function flush() {
    const { dx, dy, zoom, x, y, scroll, pointer } = gathered;
    Object.assign(gathered, { dx: 0, dy: 0, zoom: 1, scroll: 0, pointer: null });
    if (dx || dy) {
      if (panning || pointers.size > 1) panes.pan(dx * pane.ratio, dy * pane.ratio, pane);
      else panes.drag(dx, dy, pane);
    }
    if (zoom !== 1) panes.zoom(zoom, pane, x, y);
    if (scroll) panes.scroll(scroll, pane);
    if (pointer) panes.measure(pane, ...pointer);
  }

  at.addEventListener("pointerdown", (event) => {
    if (event.button === 2) return;
    at.focus({ preventScroll: true });
    at.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    panning = event.button === 1 || held.space();
    event.preventDefault();
  });

  at.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = { x: event.clientX, y: event.clientY };
    if (before) {
      const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      // Each of two fingers moves the image by half of its way, and their distance zooms it.
      gathered.dx += (now.x - before.x) / pointers.size;
      gathered.dy += (now.y - before.y) / pointers.size;
      if (others.length === 1) pinch(others[0], before, now);
      pointers.set(event.pointerId, now);
    }
    gathered.pointer = pane.onCanvas(now.x, now.y);
    panes.soon(flush);
  });

  /** @param {{x: number, y: number}} other @param {{x: number, y: number}} before @param {{x: number, y: number}} now */
  function pinch(other, before, now) {
    const apart = Math.hypot(before.x - other.x, before.y - other.y);
    if (apart > 0) gathered.zoom *= Math.hypot(now.x - other.x, now.y - other.y) / apart;
    [gathered.x, gathered.y] = pane.onCanvas((now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  for (const name of /** @type {const} */ (["pointerup", "pointercancel", "lostpointercapture"])) {
    at.addEventListener(name, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      // What has gathered belongs to the gesture that ends.
      if (panes.pending.delete(flush)) flush();
      panning &&= pointers.size > 0;
    });
  }

  at.addEventListener("pointerleave", () => {
    gathered.pointer = null;
    if (pane.element.classList.contains("viewer-measuring")) return;
    pane.cursor = null;
    pane.write();
  });

  at.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 20 : event.deltaY;
    // Browsers send a pinch on a touchpad as a wheel with Ctrl.
    if (event.ctrlKey || event.metaKey || !panes.scrolls(pane)) {
      gathered.zoom *= Math.exp(-pixels / 400);
      [gathered.x, gathered.y] = pane.onCanvas(event.clientX, event.clientY);
    } else {
      wheel += pixels;
      const steps = Math.trunc(wheel / NOTCH);
      wheel -= steps * NOTCH;
      gathered.scroll += Math.sign(steps);
    }
    panes.soon(flush);
  }, { passive: false });

  at.addEventListener("dblclick", () => panes.fitPane(pane));
  at.addEventListener("contextmenu", (event) => event.preventDefault());
  // The middle button would begin to scroll the page.
  at.addEventListener("mousedown", (event) => { if (event.button === 1) event.preventDefault(); });
}
