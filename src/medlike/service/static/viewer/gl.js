/**
 * Draw frames by WebGL 2: one texture of whole numbers holds the stored values, and a shader compares them with the
 * steps of the window. A new window is 256 numbers for the shader; no texture is uploaded.
 */

/** @import {Frame, Grey, Matrix, Painter, Quality, Tones} from "./types.js" */

import { inverse } from "./geometry.js";

const VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;

/** How a pixel of each kind becomes what is shown. VALUE is the type of a stored value, STEPS that of four steps. */
const GREY = `
uniform PICTURE picture;
uniform STEPS steps[64];
uniform VALUE sign, low, high;
uniform vec2 line;
uniform bool inverted, curved;
uniform highp usampler2D entries;
uniform int looked, first, last;

vec3 pixel(ivec2 at) {
  VALUE value = VALUE(texelFetch(picture, at, 0).r);
  if (value >= low && value <= high) return vec3(0.0);
  int level = 0;
  if (looked != 0) {
    int place = clamp(int(value), first, last) - first;
    int entry = int(texelFetch(entries, ivec2(place & 255, place >> 8), 0).r);
    if (looked == 1) level = entry; else value = VALUE(entry);
  }
  if (looked != 1) {
    value *= sign;
    // A guess in floats of 32 bits, put right by the steps: exact, and seldom more than a look to each side.
    float guess = float(value) * line.x + line.y;
    if (curved) guess = 255.0 / (1.0 + exp(-clamp(guess, -80.0, 80.0)));
    level = int(clamp(guess, 0.0, 255.0) + 0.5);
    while (level < 255 && value >= steps[level >> 2][level & 3]) level++;
    while (level > 0 && value < steps[(level - 1) >> 2][(level - 1) & 3]) level--;
  }
  return vec3(float(inverted ? 255 - level : level) / 255.0);
}`;

const COLOUR = `
uniform sampler2D picture;
vec3 pixel(ivec2 at) { return texelFetch(picture, at, 0).rgb; }`;

const MAIN = `
uniform mat3x2 place;
uniform ivec2 size;
uniform int height, taps;
out vec4 colour;

vec3 within(ivec2 at) { return pixel(clamp(at, ivec2(0), size - 1)); }

void main() {
  vec2 at = place * vec3(gl_FragCoord.x, float(height) - gl_FragCoord.y, 1.0);
  colour = vec4(0.0, 0.0, 0.0, 1.0);
  if (any(lessThan(at, vec2(0.0))) || any(greaterThanEqual(at, vec2(size)))) return;
  if (taps == 1) {
    colour.rgb = within(ivec2(at));
  } else if (taps == 0) {
    vec2 corner = floor(at - 0.5);
    vec2 part = at - 0.5 - corner;
    ivec2 pixels = ivec2(corner);
    vec3 above = mix(within(pixels), within(pixels + ivec2(1, 0)), part.x);
    colour.rgb = mix(above, mix(within(pixels + ivec2(0, 1)), within(pixels + 1), part.x), part.y);
  } else {
    vec3 sum = vec3(0.0);
    for (int y = 0; y < taps; y++)
      for (int x = 0; x < taps; x++) {
        vec2 offset = (vec2(x, y) + 0.5) / float(taps) - 0.5;
        sum += within(ivec2(floor(at + place[0] * offset.x + place[1] * offset.y)));
      }
    colour.rgb = sum / float(taps * taps);
  }
}`;

/**
 * Names of WebGL for each type of sample: of the texture, its format and type, and the words of the shader.
 *
 * @type {Record<string, ["R8UI" | "R16UI" | "R16I" | "R32F", "RED_INTEGER" | "RED", "UNSIGNED_BYTE" | "UNSIGNED_SHORT" | "SHORT" | "FLOAT", string, string, string]>}
 */
const FORMATS = {
  Uint8Array: ["R8UI", "RED_INTEGER", "UNSIGNED_BYTE", "highp usampler2D", "int", "ivec4"],
  Uint16Array: ["R16UI", "RED_INTEGER", "UNSIGNED_SHORT", "highp usampler2D", "int", "ivec4"],
  Int16Array: ["R16I", "RED_INTEGER", "SHORT", "highp isampler2D", "int", "ivec4"],
  Float32Array: ["R32F", "RED", "FLOAT", "highp sampler2D", "float", "vec4"],
};

/**
 * Return a painter for a canvas.
 *
 * @param {HTMLCanvasElement} canvas  One that has no context yet.
 * @param {boolean} slow  Take WebGL even where the processor would do the work of a graphics card.
 * @returns {Painter | null}  None where there is no WebGL 2.
 */
export function glPainter(canvas, slow) {
  const gl = canvas.getContext("webgl2", {
    alpha: false, antialias: false, depth: false, powerPreference: "high-performance", failIfMajorPerformanceCaveat: !slow,
  });
  if (!gl) return null;
  const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  /** @type {Map<string, Program>} */
  const programs = new Map();
  /** @type {Frame | null} */
  let frame = null;
  /** @type {WebGLTexture | null} */
  let picture = null;
  /** @type {WebGLTexture | null} */
  let entries = null;
  /** @type {Uint8Array | Uint16Array | null} */
  let uploaded = null;
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);

  /** @param {number} unit @param {WebGLTexture | null} before */
  function fresh(unit, before) {
    gl?.deleteTexture(before);
    const texture = gl?.createTexture() ?? null;
    gl?.activeTexture(gl.TEXTURE0 + unit);
    gl?.bindTexture(gl.TEXTURE_2D, texture);
    for (const name of /** @type {const} */ (["TEXTURE_MIN_FILTER", "TEXTURE_MAG_FILTER"])) {
      gl?.texParameteri(gl.TEXTURE_2D, gl[name], gl.NEAREST);
    }
    return texture;
  }

  /** @param {Frame} next */
  function load(next) {
    if (!gl || Math.max(next.width, next.height) > most) throw new RangeError("larger than a texture can be");
    picture = fresh(0, picture);
    frame = next;
    if (next.kind === "colour") {
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, next.bitmap);
    } else {
      const [inside, format, type] = FORMATS[next.samples.constructor.name];
      gl.texImage2D(gl.TEXTURE_2D, 0, gl[inside], next.width, next.height, 0, gl[format], gl[type], next.samples);
    }
  }

  /** Hand over a table, once for each. @param {Uint8Array | Uint16Array} table */
  function look(table) {
    if (!gl || table === uploaded) return;
    entries = fresh(1, entries);
    uploaded = table;
    const rows = Math.ceil(table.length / 256);
    const filled = new Uint16Array(rows * 256);
    filled.set(table);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R16UI, 256, rows, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, filled);
  }

  /** @param {Tones | null} tones @param {Matrix} matrix @param {Quality} quality */
  function draw(tones, matrix, quality) {
    if (!gl || !frame || gl.isContextLost()) return;
    const kind = frame.kind === "colour" ? "Colour" : frame.samples.constructor.name;
    let program = programs.get(kind);
    if (!program) programs.set(kind, (program = build(gl, kind)));
    const at = program.at;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.useProgram(program.program);
    gl.uniformMatrix3x2fv(at("place"), false, inverse(matrix));
    gl.uniform2i(at("size"), frame.width, frame.height);
    gl.uniform1i(at("height"), canvas.height);
    gl.uniform1i(at("taps"), taps(matrix, quality));
    gl.uniform1i(at("picture"), 0);
    if (frame.kind === "grey" && tones) shade(gl, at, frame, tones);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** @param {WebGL2RenderingContext} gl @param {At} at @param {Grey} grey @param {Tones} tones */
  function shade(gl, at, grey, tones) {
    const floats = grey.samples instanceof Float32Array;
    const table = tones.table ?? tones.units;
    if (table) look(table);
    else if (!entries) look(new Uint8Array(1));
    const [low, high] = tones.padding ?? [1, 0];
    gl.uniform1i(at("entries"), 1);
    gl.uniform1i(at("looked"), tones.table ? 1 : tones.units ? 2 : 0);
    gl.uniform1i(at("first"), tones.first);
    gl.uniform1i(at("last"), tones.first + (table ? table.length : 1) - 1);
    gl.uniform1i(at("inverted"), Number(tones.inverted));
    gl.uniform1i(at("curved"), Number(tones.guess.curved));
    gl.uniform2f(at("line"), tones.guess.slope, tones.guess.offset);
    if (floats) {
      gl.uniform1f(at("sign"), tones.sign);
      gl.uniform1f(at("low"), low);
      gl.uniform1f(at("high"), high);
      gl.uniform4fv(at("steps"), tones.steps);
    } else {
      gl.uniform1i(at("sign"), tones.sign);
      gl.uniform1i(at("low"), Math.ceil(low));
      gl.uniform1i(at("high"), Math.floor(high));
      gl.uniform4iv(at("steps"), tones.steps);
    }
  }

  return {
    kind: "webgl2",
    load,
    draw,
    time() {
      const begun = performance.now();
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      // Reading a pixel back waits until it is drawn.
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
      return performance.now() - begun;
    },
    close() {
      gl.getExtension("WEBGL_lose_context")?.loseContext();
    },
  };
}

/**
 * Return how a pixel of the pane is drawn: 1 the nearest pixel, 0 between four, else the mean of so many squared.
 *
 * @param {Matrix} matrix
 * @param {Quality} quality
 */
function taps(matrix, quality) {
  const scale = Math.hypot(matrix[0], matrix[1]);
  if (quality === "nearest" || Math.abs(scale - 1) < 1e-6) return 1;
  return scale > 1 ? 0 : Math.min(Math.ceil(1 / scale), 4);
}

/** @typedef {(name: string) => WebGLUniformLocation | null} At */
/** @typedef {{program: WebGLProgram, at: At}} Program */

/**
 * @param {WebGL2RenderingContext} gl
 * @param {string} kind  Of the frame: Colour, or the type of its samples.
 * @returns {Program}
 */
function build(gl, kind) {
  const [, , , picture, value, steps] = FORMATS[kind] ?? [];
  const pixel = picture
    ? GREY.replaceAll("PICTURE", picture).replaceAll("VALUE", value).replaceAll("STEPS", steps)
    : COLOUR;
  const program = gl.createProgram();
  const head = "#version 300 es\nprecision highp float;\nprecision highp int;\n";
  for (const [type, text] of /** @type {const} */ ([["VERTEX_SHADER", VERTEX], ["FRAGMENT_SHADER", head + pixel + MAIN]])) {
    const shader = gl.createShader(gl[type]);
    if (!shader) throw new Error("no shader can be made");
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) ?? "no program");
  /** @type {Map<string, WebGLUniformLocation | null>} */
  const places = new Map();
  return {
    program,
    at(name) {
      if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
      return places.get(name) ?? null;
    },
  };
}
