// All texts of the page in one place, so that another language is another catalogue.

const number = new Intl.NumberFormat("en");
const percent = (/** @type {number} */ share) => `${Math.round(100 * share)} %`;
const count = (/** @type {number} */ n, /** @type {string} */ one, /** @type {string} */ many) => `${number.format(n)} ${n === 1 ? one : many}`;

/** Names of values that the archive holds as abbreviations. @type {Record<string, Record<string, string>>} */
const VALUES = {
  modality: { XR: "Radiograph", CR: "Radiograph", DX: "Radiograph", CT: "CT", MR: "MRI", US: "Ultrasound", NM: "Nuclear medicine", PT: "PET", MG: "Mammogram", XA: "Angiography" },
  sex: { M: "Male", F: "Female", O: "Other" },
};

export const WORDS = {
  number: (/** @type {number} */ n) => number.format(n),
  value: (/** @type {string} */ field, /** @type {any} */ value) =>
    VALUES[field]?.[String(value)] ?? (Array.isArray(value) ? value.join(", ") : String(value)).replaceAll("_", " "),
  fields: /** @type {Record<string, string>} */ ({ modality: "Modality", region: "Body region", label: "Label", source: "Source", sex: "Sex" }),
  sentence: (/** @type {string} */ text) => text.charAt(0).toUpperCase() + text.slice(1),
  notDevice: "Research tool, not a medical device. Alike images need not have the same diagnosis.",
  notDeviceShort: "Research tool, not a medical device",

  // Asking
  askWords: "Search in words, such as “pleural effusion”",
  question: "Question",
  choose: "Choose an image",
  chooseOther: "Change",
  drop: "Drop a DICOM file, a PNG or a JPEG here, or paste a picture.",
  dropNow: "Drop the image to search for cases like it",
  stays: "An image you bring stays on this machine and is not stored.",
  clear: "Clear",
  pictureOf: "The image you ask about",
  stored: "A stored image of this archive",
  yours: "Your image. It is not stored.",
  onlyWords: "You ask in words alone. Add an image to compare pictures too.",
  oneOfSeveral: (/** @type {number} */ n) => `You gave ${n} files. The first is your question; ask about the others one by one.`,
  start: "Find cases like yours",
  startText: "Bring an image, mark what you look at, and see which cases of this archive are like it.",
  examples: "Or begin with an image of this archive",
  example: (/** @type {string} */ facts) => `Find images like this one: ${facts}`,

  // The box
  box: "Box",
  boxDraw: "Drag on the picture to search for a region",
  boxAdd: "Add a box",
  boxRemove: "Remove",
  boxSmaller: "Smaller",
  boxLarger: "Larger",
  boxLabel: (/** @type {number[]} */ box) => `Box from ${Math.round(box[0])}, ${Math.round(box[1])} to ${Math.round(box[2])}, ${Math.round(box[3])}. Arrow keys move it, with Shift they resize it, Delete removes it.`,
  boxAside: "Marks count for the whole image, so the box is set aside. Clear the marks to use it again.",

  // Filters
  filters: "Filters",
  filterClear: "Clear filters",
  filterMore: (/** @type {number} */ n) => `Show all ${n}`,
  filterLess: "Show fewer",
  filterNone: "This archive has no values to filter by.",
  leftOut: "Left out",
  ownPatient: "This patient’s own images",
  ownPatientUnknown: "The patient of this image is not known, so none can be left out.",
  duplicates: "Nearly the same pictures",
  hiddenLabel: "Labels are hidden",

  // The answers
  answers: "Answers",
  found: (/** @type {number} */ n) => (n ? `${count(n, "image", "images")} found, most alike first` : "No image found"),
  images: (/** @type {number} */ n) => count(n, "image", "images"),
  like: { image: "like this image", box: "like this box", words: "for these words", both: "for this image and these words", marks: "like this image and your marks" },
  first: "most alike first",
  seconds: (/** @type {number} */ s) => `${s < 0.01 ? "under 0.01" : s.toFixed(2)} s`,
  rank: "Order",
  ranks: { neighbours: "By neighbours", exact: "By look", content: "By code, then look", hamming: "By code" },
  rankFixed: "Boxes and words have an order of their own.",
  grid: "Grid",
  list: "List",
  hide: "Hide labels",
  show: "Show labels",
  share: "Share",
  shareNot: "A link needs a question that is stored: an image of this archive, or words. Nothing of your own image is kept.",
  linkCopied: "Link copied. It shows this same answer.",
  linkMade: "This link shows the same answer on this service:",
  link: "Link to this answer",
  repeated: "You see the answer of a shared link, as it was then.",
  askAgain: "Search anew",
  erased: (/** @type {number} */ n) => `${count(n, "image", "images")} of it ${n === 1 ? "has" : "have"} been erased since.`,
  more: "Show more",
  all: "These are all images that match.",
  marked: (/** @type {number} */ n) => (n === 1 ? "Your mark orders these answers." : `Your ${n} marks order these answers.`),
  clearMarks: "Clear marks",
  reordered: (/** @type {number} */ n) => (n ? `Ordered anew by ${count(n, "mark", "marks")}` : "Ordered without marks"),
  loading: "Searching",
  reading: "Reading the image",

  // A card
  hit: (/** @type {number} */ rank, /** @type {string} */ alike) => `Answer ${rank}: ${alike}`,
  degrees: ["Very alike", "Alike", "Somewhat alike", "Little alike"],
  nearest: "Among the nearest",
  place: (/** @type {number} */ rank) => `Place ${rank}`,
  ofHundred: (/** @type {number} */ share) => `${Math.round(100 * share)} of 100`,
  labelShare: (/** @type {number} */ share) => `Of 100 pairs of this archive’s patients that are as alike as these two images, ${Math.round(100 * share)} have the same label. It is no probability of a diagnosis.`,
  neighbourShare: (/** @type {number} */ share) => `This image is nearer than the nearest other patient is for ${Math.round(100 * share)} of 100 images of this archive.`,
  boxShare: (/** @type {number} */ share) => `${Math.round(100 * share)} of 100 bits of the box agree with the marked region; by chance it would be about half.`,
  similarity: (/** @type {number} */ s) => `Similarity of content: ${s.toFixed(2)}. 1 is equal and 0 is unrelated. With marks there is no measure of what it means.`,
  inWords: "The order comes from the words in texts and fields, and from their meaning.",
  cautious: "The question is unlike what medlike knows, so this only says that the image is among the nearest there are.",
  itself: "This is the image itself",
  mirrored: "mirrored",
  same: (/** @type {number} */ n) => `${n} more nearly the same`,
  age: (/** @type {any} */ age) => `${age} y`,
  noLabel: "No label",
  moreLike: "More like this",
  relevant: "Like",
  irrelevant: "Not like",
  compare: "Compare",
  picture: (/** @type {string} */ facts) => `Stored image: ${facts}`,
  noPicture: "Picture missing",

  // Verdicts
  judged: "A kind of image medlike can judge",
  familiar: (/** @type {number} */ share) => `Its neighbours here are closer than those of ${Math.round(100 * share)} of 100 comparable images.`,
  hardly: { title: "Hardly anything alike", text: (/** @type {number} */ share) => `Only ${Math.round(100 * share)} of 100 comparable images have neighbours as far away. Read the answers with care.` },
  tooFew: (/** @type {number} */ n) => `Too few patients to judge whether anything is alike: ${number.format(n)}, and 100 are needed.`,
  unjudged: { region: "Whether anything is alike is judged for whole images, not for a box.", words: "Whether anything is alike is judged for images, not for words." },
  outlier: {
    title: "medlike cannot judge this kind of image",
    text: (/** @type {number | null} */ p) => `It is unlike the images that the model learned from${p === null || p === undefined ? "" : ` (${p < 0.01 ? "fewer than 1" : Math.round(100 * p)} in 100 of those are as unusual)`}. The images below are only the nearest there are, and may have nothing to do with it.`,
    act: "Check that the picture is shown as you know it, crop it to the anatomy, or search in words.",
  },
  nothing: {
    title: "Nothing like this is known here",
    text: "The nearest images of this archive are farther away than neighbours usually are. That says something about the archive, not about the patient.",
    filtered: "None of the images that pass your filters is like it.",
    act: "Remove filters, draw a box around what matters, or try another archive.",
  },
  modality: (/** @type {string} */ m) => `Looks like: ${m}`,

  // Summary
  summary: (/** @type {number} */ n) => `Among the ${count(n, "nearest patient", "nearest patients")} with a label`,
  interval: (/** @type {any} */ v) => `${percent(v.share)} (${Math.round(100 * v.low)} to ${Math.round(100 * v.high)})`,
  without: (/** @type {number} */ n) => `none stated ${n}`,
  noDiagnosis: "what this archive holds, no diagnosis",
  summaryHelp: "The bracket is the 95 % interval of the share. Each patient counts once.",

  // States
  nothingFound: { title: "No image matches", text: "No image of this archive passes what you chose.", act: "Clear filters" },
  failures: {
    refused: { title: "This could not be searched for", act: "Try another image or change the question." },
    expired: { title: "This page has lost its key", act: "The service was started anew. Open the address that “medlike serve” printed." },
    error: { title: "The service failed", act: "Try again. If it fails again, give the number of the request to whoever runs the service." },
    offline: { title: "The service does not answer", act: "It may have been stopped. Start “medlike serve” again, or try again if it is still running. Your question is kept." },
  },
  request: (/** @type {string} */ id) => `Request ${id}`,
  again: "Try again",

  // The page
  theme: { system: "Theme: as the system", dark: "Theme: dark", light: "Theme: light" },
  help: "Help",
  shortcuts: "Keyboard shortcuts",
  singleKeys: "Use single-key shortcuts",
  close: "Close",
  keys: [
    ["/", "Search in words"], ["o", "Choose an image"], ["b", "Add or reach the box"], ["Arrow keys", "Move between answers, or move the box"],
    ["Shift and arrow keys", "Resize the box"], ["l, n", "Mark the answer: like, not like"], ["m", "More like this answer"],
    ["c", "Choose the answer for comparing"], ["h", "Hide or show labels"], ["g", "Grid or list"], ["s", "Share the answer"],
    ["t", "Next theme"], ["?", "This help"], ["Esc", "Close, or leave the box"],
  ],
  helpText: "Similarity is said in words, with the share behind it. Point at it, or reach it with Tab, to read what it means.",
  tray: (/** @type {number} */ n) => `${count(n, "image", "images")} chosen`,
  compareThem: (/** @type {number} */ n) => `Compare ${n}`,
  compareMore: "Choose 2 to 8 answers to compare.",
};
