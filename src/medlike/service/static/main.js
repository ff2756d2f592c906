// Where the page begins: what is drawn when, and how images come in.

import { byId, h, keepingFocus } from "./dom.js";
import { count } from "./facets.js";
import { help, listenToKeys } from "./keyboard.js";
import { askFile, askImage, askWords, clear, openReceipt } from "./query.js";
import { drawQuestion } from "./question.js";
import { drawAnswers, loadExamples } from "./results.js";
import { change, onChange, setting, state } from "./state.js";
import { applyTheme, nextTheme } from "./theme.js";
import { drawTray } from "./tray.js";
import { WORDS } from "./words.js";

const words = byId("words"), archive = byId("archive"), drop = byId("drop");
let drawing = false;

/** Draw the page once, however many changes there were. */
function draw() {
  if (drawing) return;
  drawing = true;
  queueMicrotask(() => {
    drawing = false;
    if (document.activeElement !== words) words.value = state.words;
    archive.value = state.archive;
    keepingFocus(() => {
      drawQuestion();
      drawAnswers();
      drawTray();
    });
  });
}

/** @param {Iterable<File>} files */
function take(files) {
  const [first, ...others] = files;
  if (first) askFile(first, others.length);
}

/** Show what the address of the page names. */
function follow() {
  const named = new URLSearchParams(location.hash.slice(1));
  const name = named.get("archive");
  if (name && name !== state.archive && [...archive.options].some((option) => option.value === name)) {
    change({ archive: name, where: {} });
    count();
  }
  const id = /^[0-9a-f]{32}$/;
  const image = named.get("image") ?? "", receipt = named.get("receipt") ?? "";
  if (id.test(receipt)) openReceipt(receipt);
  else if (id.test(image)) askImage(image, { quiet: true });
  else if (state.question?.kind === "image" || state.repeated) clear();
}

function shell() {
  words.placeholder = WORDS.askWords;
  words.setAttribute("aria-label", WORDS.askWords);
  const theme = h("button", { type: "button", onclick: nextTheme });
  byId("tools").append(h("span", { class: "device-short" }, WORDS.notDeviceShort), theme, h("button", { type: "button", onclick: help }, `${WORDS.help} `, h("kbd", { "aria-hidden": "true" }, "?")));
  applyTheme(theme);
  drop.append(h("p", {}, WORDS.dropNow));
  document.body.append(h("input", { type: "file", id: "file", multiple: true, hidden: true, "aria-label": WORDS.choose, onchange: (/** @type {any} */ event) => { take(event.target.files); event.target.value = ""; } }));
  byId("words-form").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    askWords(words.value);
  });
  words.addEventListener("search", () => { if (!words.value && state.words) askWords(""); });
  if (archive.options.length < 2) archive.classList.add("single");
  archive.addEventListener("change", () => {
    clear();
    change({ archive: archive.value, where: {}, facets: null, examples: null });
    count();
    loadExamples();
  });
}

function listenToFiles() {
  let inside = 0;
  const hasFiles = (/** @type {DragEvent} */ event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => { if (hasFiles(event)) { inside += 1; drop.hidden = false; } });
  addEventListener("dragleave", () => { inside = Math.max(0, inside - 1); drop.hidden = inside === 0; });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    drop.hidden = true;
    take(event.dataTransfer?.files ?? []);
  });
  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (files?.length) {
      event.preventDefault();
      take(files);
    }
  });
}

change({ archive: archive.value, view: setting("view") === "list" ? "list" : "grid" });
onChange(draw);
shell();
listenToFiles();
listenToKeys();
addEventListener("popstate", follow);
follow();
draw();
count();
loadExamples();
