// The service's API, as the page uses it.

const PREFIX = "/api/v1";

/** A request that failed. `kind` is refused, expired, error or offline. */
export class Failure extends Error {
  /**
   * @param {"refused" | "expired" | "error" | "offline"} kind
   * @param {string} detail
   * @param {string} [request] Id of the request.
   */
  constructor(kind, detail, request) {
    super(detail);
    this.kind = kind;
    this.request = request;
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", redirect: "error", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Failure("offline", "");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const kind = response.status === 401 ? "expired" : response.status < 500 || response.status === 503 ? "refused" : "error";
  throw new Failure(kind, problem.detail || response.statusText, problem.request_id);
}

/**
 * Return an address of the API.
 * @param {string} path
 * @param {string} archive
 * @param {Record<string, string | number>} [parameters]
 */
export function address(path, archive, parameters = {}) {
  const query = new URLSearchParams({ archive });
  for (const [name, value] of Object.entries(parameters)) query.set(name, String(value));
  return `${PREFIX}/${path}?${query}`;
}

/** @param {string} archive @param {string} id @param {number} size */
export const thumbnail = (archive, id, size) => address(`images/${id}/thumbnail`, archive, { size });

/** @param {string} archive @param {string} id */
export const rendered = (archive, id) => address(`images/${id}/rendered`, archive, { size: 1024, format: "webp", quality: 90 });

/**
 * @param {string} path
 * @param {string} archive
 * @param {Record<string, string | number>} [parameters]
 * @param {AbortSignal} [signal]
 */
export async function get(path, archive, parameters, signal) {
  return (await send(address(path, archive, parameters), { signal })).json();
}

/**
 * @param {string} method
 * @param {string} path
 * @param {string} archive
 * @param {object} [body]
 * @param {AbortSignal} [signal]
 */
export async function write(method, path, archive, body, signal) {
  const response = await send(address(path, archive), {
    method, signal,
    ...(body ? { headers: { "content-type": "application/json" }, body: JSON.stringify(body) } : {}),
  });
  return response.status === 204 ? null : response.json();
}

/** @param {string} archive @param {object} request @param {AbortSignal} [signal] */
export const search = (archive, request, signal) => write("POST", "search", archive, request, signal);

/**
 * Search with an image that is sent along, and return the answer with `encoded`.
 * @param {string} archive
 * @param {File} file
 * @param {object} request
 * @param {AbortSignal} [signal]
 */
export async function encode(archive, file, request, signal) {
  const body = new FormData();
  body.set("request", JSON.stringify({ ...request, parts: ["encoded"] }));
  body.append("image", file, "image");
  return (await send(address("search", archive), { method: "POST", body, signal })).json();
}

/**
 * Return the picture of a file as medlike reads it.
 * @param {File} file
 * @param {AbortSignal} [signal]
 * @returns {Promise<string>} an address within the page
 */
export async function picture(file, signal) {
  const body = new FormData();
  body.append("image", file, "image");
  const response = await send("/room/picture", { method: "POST", body, signal });
  return URL.createObjectURL(await response.blob());
}
