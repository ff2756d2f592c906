/** Matched boxes over a frame, drawn as lines that stay thin at every zoom. */

import { placed } from "./geometry.js";
import { words } from "./words.js";

/** @import {Matrix} from "./types.js" */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an overlay for boxes.
 *
 * @param {number[][]} boxes  x0, y0, x1, y1 in pixels of the frame, half-open.
 * @returns {{element: SVGSVGElement, place: (matrix: Matrix, ratio: number) => void}}
 */
export function boxOverlay(boxes) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "viewer-boxes");
  svg.setAttribute("aria-hidden", "true");
  const shapes = boxes.map(() => {
    const title = document.createElementNS(SVG, "title");
    title.textContent = words.box;
    const shape = document.createElementNS(SVG, "polygon");
    shape.append(title);
    return shape;
  });
  svg.append(...shapes);
  return {
    element: svg,
    place(matrix, ratio) {
      boxes.forEach(([x0, y0, x1, y1], at) => {
        const corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]].map(([x, y]) =>
          placed(matrix, x, y).map((part) => (part / ratio).toFixed(2)).join(","));
        shapes[at].setAttribute("points", corners.join(" "));
      });
    },
  };
}
