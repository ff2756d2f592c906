// The box on the question: drawn, moved and resized by mouse, touch or keyboard.

import { h, place } from "./dom.js";
import { WORDS } from "./words.js";

const LEAST = 4; // pixels of a side of a box
const CORNERS = ["nw", "ne", "sw", "se"];

/**
 * Return a box within a picture, its corners in order.
 * @param {number[]} box
 * @param {number[]} size
 * @returns {number[]}
 */
export function within(box, [width, height]) {
  const limit = (/** @type {number} */ value, /** @type {number} */ most) => Math.min(Math.max(value, 0), most);
  const [x0, x1] = [limit(box[0], width), limit(box[2], width)].sort((a, b) => a - b);
  const [y0, y1] = [limit(box[1], height), limit(box[3], height)].sort((a, b) => a - b);
  return [x0, y0, x1, y1].map((value) => Math.round(value * 10) / 10);
}

/** Return a box moved as far as it stays within a picture. @param {number[]} box @param {number} x @param {number} y @param {number[]} size */
export function moved(box, x, y, size) {
  const across = Math.min(Math.max(x, -box[0]), size[0] - box[2]), down = Math.min(Math.max(y, -box[1]), size[1] - box[3]);
  return [box[0] + across, box[1] + down, box[2] + across, box[3] + down];
}

/** Return a box resized about its centre. @param {number[]} box @param {number} factor @param {number[]} size */
export function resized(box, factor, size) {
  const x = (box[0] + box[2]) / 2, y = (box[1] + box[3]) / 2;
  const across = Math.max(((box[2] - box[0]) * factor) / 2, LEAST), down = Math.max(((box[3] - box[1]) * factor) / 2, LEAST);
  return within([x - across, y - down, x + across, y + down], size);
}

/** Return a box about a point, a third of the picture wide. @param {number[]} point @param {number[]} size */
export function around([x, y], size) {
  const half = Math.min(size[0], size[1]) / 6;
  return moved([x - half, y - half, x + half, y + half].map(Math.round), 0, 0, size);
}

/**
 * Let a box be drawn over a picture.
 * @param {HTMLElement} stage The frame of the picture, which the picture fills.
 * @param {number[]} size Width and height of the picture in its own pixels.
 * @param {number[] | null} box
 * @param {(box: number[] | null) => void} done Called when a box is finished, changed or removed.
 * @returns {(box: number[] | null) => void} Sets the box from outside.
 */
export function boxOn(stage, size, box, done) {
  /** @type {number[] | null} */
  let current = box;
  const element = h("div", { class: "box query-box", tabindex: "0", role: "group", data: { key: "box" }, onkeydown: keyed },
    ...CORNERS.map((corner) => h("span", { class: `corner ${corner}`, data: { corner } })));
  /** @type {number | undefined} */
  let waiting;

  function draw() {
    if (!current) {
      element.remove();
      return;
    }
    place(element, current, size, false);
    element.setAttribute("aria-label", WORDS.boxLabel(current));
    if (!element.isConnected) stage.append(element);
  }

  /** @param {PointerEvent} event */
  function point(event) {
    const frame = stage.getBoundingClientRect();
    return [((event.clientX - frame.left) / frame.width) * size[0], ((event.clientY - frame.top) / frame.height) * size[1]];
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || stage.classList.contains("dragging")) return;
    event.preventDefault();
    const target = /** @type {HTMLElement} */ (event.target), start = point(event), before = current;
    const corner = target.dataset.corner, moves = !corner && before && element.contains(target);
    stage.setPointerCapture(event.pointerId);
    stage.classList.add("dragging");
    let dragged = false;
    const drag = (/** @type {PointerEvent} */ now) => {
      const [x, y] = point(now);
      if (!dragged && Math.hypot(now.clientX - event.clientX, now.clientY - event.clientY) < 4) return;
      dragged = true;
      if (corner && before) {
        const fixed = [corner.includes("w") ? before[2] : before[0], corner.includes("n") ? before[3] : before[1]];
        current = within([fixed[0], fixed[1], x, y], size);
      } else if (moves && before) current = moved(before, x - start[0], y - start[1], size);
      else current = within([start[0], start[1], x, y], size);
      draw();
    };
    const end = (/** @type {PointerEvent} */ now) => {
      stage.removeEventListener("pointermove", drag);
      stage.removeEventListener("pointerup", end);
      stage.removeEventListener("pointercancel", end);
      if (now.type === "pointercancel") current = before;
      else if (!dragged && !moves && !corner) current = around(start, size);
      if (current && (current[2] - current[0] < LEAST || current[3] - current[1] < LEAST)) current = before;
      draw();
      stage.classList.remove("dragging");
      element.focus({ preventScroll: true });
      done(current);
    };
    stage.addEventListener("pointermove", drag);
    stage.addEventListener("pointerup", end);
    stage.addEventListener("pointercancel", end);
  });

  /** @param {KeyboardEvent} event */
  function keyed(event) {
    if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = Math.max(1, Math.max(...size) / 64);
    const [x, y] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [0, 0];
    if (event.key === "Delete" || event.key === "Backspace") current = null;
    else if (!x && !y) return;
    else if (event.shiftKey) {
      const [x0, y0, x1, y1] = current;
      current = within([x0, y0, Math.max(x1 + x, x0 + LEAST), Math.max(y1 + y, y0 + LEAST)], size);
    } else current = moved(current, x, y, size);
    event.preventDefault();
    event.stopPropagation();
    draw();
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      waiting = undefined;
      done(current);
    }, current ? 350 : 0);
  }

  draw();
  return (given) => {
    if (waiting !== undefined || stage.classList.contains("dragging") || String(given) === String(current)) return;
    current = given;
    draw();
  };
}
