/**
 * The types that the modules of the viewer share; there is no code here.
 *
 * @typedef {{first: number, entries: number[], bits: number}} Lut  A look-up table, as medlike.imaging.Lut.
 * @typedef {{center: number, width: number, function: string}} Window  A window in modality units.
 *
 * @typedef {object} Photometry  What the file says, as medlike.imaging.Photometry.
 * @property {number} bits
 * @property {number} slope
 * @property {number} intercept
 * @property {Lut | null} modality_lut
 * @property {Window[]} windows
 * @property {Lut | null} voi_lut
 * @property {boolean} inverted
 * @property {[number, number] | null} padding
 *
 * @typedef {{kind: "range", low: number, high: number}} Range
 * @typedef {{kind: "window"} & Window} WindowShading
 * @typedef {{kind: "voi_lut"}} LutShading
 * @typedef {Range | WindowShading | LutShading} Shading  What turns modality units into 0 .. 255.
 *
 * @typedef {Uint8Array | Uint16Array | Int16Array | Float32Array} Samples
 *
 * @typedef {object} Grey  A grey frame: stored values, and how they are shown.
 * @property {"grey"} kind
 * @property {number} width
 * @property {number} height
 * @property {Samples} samples  Stored values by rows; in floats, what is no finite number is replaced as medlike does.
 * @property {Samples} stored  Stored values as the file has them.
 * @property {number} lowest  Lowest stored value.
 * @property {number} highest  Highest stored value.
 * @property {[number, number] | null} padding  Stored values that are black; null if there are none.
 * @property {Photometry} photometry
 * @property {Shading} shading  What is shown by default.
 * @property {number} frame
 * @property {number} frames
 * @property {number} aspect  Height of a pixel by its width.
 *
 * @typedef {object} Colour  A picture that is shown as it is: colour, or a preview.
 * @property {"colour"} kind
 * @property {number} width
 * @property {number} height
 * @property {ImageBitmap} bitmap
 * @property {number} frame
 * @property {number} frames
 * @property {number} aspect
 *
 * @typedef {Grey | Colour} Frame
 *
 * @typedef {object} View  Where a frame lies in its pane. Zoom and pan do not depend on the size of either.
 * @property {number} zoom  1 fits the frame into the pane.
 * @property {number} x  Shift to the right, in longest sides of the frame as it is shown.
 * @property {number} y  Shift downwards, likewise.
 * @property {number} turns  Quarter turns clockwise, 0 to 3.
 * @property {boolean} mirrored  Flipped from left to right before it is turned.
 *
 * @typedef {[number, number, number, number, number, number]} Matrix  a, b, c, d, e, f: x' = ax + cy + e, y' = bx + dy + f.
 *
 * @typedef {{slope: number, offset: number, curved: boolean}} Guess  Grey level of a value: slope * value + offset; if
 *   curved, that is the exponent of a sigmoid.
 *
 * @typedef {object} Tones  How stored values become grey levels, ready for a painter.
 * @property {1 | -1} sign  Values are multiplied by it before they are compared with `steps`.
 * @property {Int32Array | Float32Array} steps  256 values, ascending: grey level k begins at steps[k - 1].
 * @property {Guess} guess  About the level, in floats of 32 bits, that a painter begins from.
 * @property {Uint16Array | null} units  Modality units of stored values from `first` on, where a table gives them.
 * @property {Uint8Array | null} table  Grey levels of stored values from `first` on, where no window is applied.
 * @property {number} first  Stored value of the first entry of `units` or `table`.
 * @property {boolean} inverted
 * @property {[number, number] | null} padding
 *
 * @typedef {object} Painter  What draws a frame into a canvas.
 * @property {string} kind  "webgl2" or "canvas2d".
 * @property {(frame: Frame) => void} load  Take over a frame.
 * @property {(tones: Tones | null, matrix: Matrix, quality: Quality) => void} draw
 * @property {() => number} time  Return the milliseconds that drawing again takes.
 * @property {() => void} close
 *
 * @typedef {"nearest" | "smooth"} Quality  Nearest pixels, or means between and of pixels.
 *
 * @typedef {object} Item  What is shown in a pane.
 * @property {string} id  Public id of an image.
 * @property {string} [title]
 * @property {string} [modality]
 * @property {number[][]} [boxes]  Matched boxes: x0, y0, x1, y1 in pixels, half-open.
 * @property {string[]} [slices]  Ids that the wheel goes through in place of the file's frames; `id` is among them.
 *
 * @typedef {object} Options
 * @property {string} [base]  Address of the API, by default /api/v1.
 * @property {string} [archive]  Name of the archive; by default the first.
 * @property {"webgl2" | "canvas2d"} [renderer]  By default what is fast enough.
 * @property {Record<string, unknown>} [words]  Texts in place of those of words.js.
 */

export {};
