/** Every text of the viewer, in one place, so that languages can be added. */

export const words = {
  viewer: "Compare images",
  pane: (/** @type {number} */ at, /** @type {number} */ of, /** @type {string} */ title) => `Image ${at} of ${of}: ${title}`,
  loading: "The pixels are being loaded.",
  previewed: (/** @type {string} */ detail) => `This is the stored preview: its window cannot be changed. ${sentence(detail)}`,
  failed: (/** @type {string} */ detail) => sentence(detail),
  noAnswer: (/** @type {number} */ status) => `the service answered ${status}: try again, or see its log`,
  limits: (/** @type {number} */ given) => `the viewer shows 1 to 8 images, and ${given} were given`,
  noWindow: (/** @type {number} */ width, /** @type {number} */ level) =>
    `the window has the width ${width} and the level ${level}: give two numbers, the width above 0`,
  frame: (/** @type {number} */ at, /** @type {number} */ of) => `Frame ${at} of ${of}`,
  slice: (/** @type {number} */ at, /** @type {number} */ of) => `Slice ${at} of ${of}`,
  window: (/** @type {string} */ width, /** @type {string} */ level) => `W ${width} L ${level}`,
  table: "Look-up table of the file",
  inverted: "inverted",
  zoom: (/** @type {string} */ percent) => `${percent} %`,
  position: (/** @type {number} */ x, /** @type {number} */ y) => `x ${x}, y ${y}`,
  value: (/** @type {string} */ value, /** @type {string} */ unit) => (unit ? `${value} ${unit}` : value),
  stored: (/** @type {string} */ value) => `stored ${value}`,
  padding: "padding",
  hounsfield: "HU",
  box: "Matched region",
  presets: {
    file: "Of the file", lung: "Lung", bone: "Bone", brain: "Brain", soft: "Soft tissue",
  },
  preset: "Window",
  own: "Own",
  fileWindow: (/** @type {number} */ at) => `Of the file, ${at}`,
  tools: {
    linked: "Link", smooth: "Smooth", boxes: "Regions", facts: "Facts", fit: "Fit", actual: "1:1", clockwise: "Turn",
    mirror: "Mirror", invert: "Invert", reset: "Reset", help: "Keys",
  },
  hints: {
    linked: "Zoom, move and set the window of all images together",
    smooth: "Smooth the picture, or show its pixels",
    boxes: "Show or hide the matched regions",
    facts: "Show or hide the facts on the images",
    fit: "Fit the image into its pane",
    actual: "Show each pixel of the image as one pixel of the screen",
    clockwise: "Turn by a quarter, clockwise",
    counterclockwise: "Turn by a quarter, counterclockwise",
    mirror: "Flip from left to right",
    upright: "Flip from top to bottom",
    invert: "Show dark what is bright",
    reset: "Show the image as at first",
    help: "Show or hide this table of keys",
    narrower: "Narrow the window: more contrast",
    wider: "Widen the window: less contrast",
    brighter: "Brighter: lower the level",
    darker: "Darker: raise the level",
    zoomIn: "Zoom in",
    zoomOut: "Zoom out",
    left: "Move the image to the left",
    right: "Move the image to the right",
    up: "Move the image up",
    down: "Move the image down",
    nextFrame: "Next frame or slice",
    previousFrame: "Previous frame or slice",
    firstFrame: "First frame or slice",
    lastFrame: "Last frame or slice",
    cursorLeft: "Measure the pixel to the left",
    cursorRight: "Measure the pixel to the right",
    cursorUp: "Measure the pixel above",
    cursorDown: "Measure the pixel below",
    nextPane: "Next image",
    previousPane: "Previous image",
    presets: "Window of the file, lung, bone, brain, soft tissue",
    close: "Close",
  },
  help: {
    title: "Keys and gestures",
    key: "Key",
    action: "What it does",
    gestures: /** @type {[string, string][]} */ ([
      ["Drag", "Window (sideways) and level (up and down)"],
      ["Wheel", "Frames or slices; zoom where there is only one"],
      ["Ctrl + wheel, or pinch", "Zoom"],
      ["Middle button, Space + drag, or two fingers", "Move the image"],
      ["Double click", "Fit the image into its pane"],
    ]),
    close: "Close",
  },
};

/**
 * Replace texts, such as by those of another language.
 *
 * @param {Record<string, unknown>} others  Of the same names.
 */
export function useWords(others) {
  Object.assign(words, others);
}

/** @param {string} text */
function sentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}
