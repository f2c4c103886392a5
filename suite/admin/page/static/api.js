// Asking the server, and the token that changes take: kept for this tab, sent with changes only.

const TOKEN = "echo-suite-token";

/** Seconds after which an answer is no longer waited for. */
const PATIENCE = 10;

/** A request that was refused, in the server's words. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `status ${status}`);
    this.status = status;
    this.lines = problem.errors ?? [];
  }
}

/** No answer at all. */
export class Unreachable extends Error {}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, {
      ...options,
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE * 1000),
    });
  } catch (error) {
    throw new Unreachable("no answer", { cause: error });
  }
  if (response.ok) return response;
  throw new Refused(response.status, await response.json().catch(() => ({})));
}

async function parsed(reading) {
  try {
    return await reading;
  } catch (error) {
    throw new Unreachable("the answer was cut off", { cause: error });
  }
}

/** The document at a path of the API. */
export async function get(path) {
  return parsed((await ask(path, {})).json());
}

/** The page at a path, as a document whose scripts do not run. */
export async function getPage(path) {
  const text = await parsed((await ask(path, {})).text());
  return new DOMParser().parseFromString(text, "text/html");
}

/** Change something; returns the document that is the answer. */
export async function change(method, path, body) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await ask(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return parsed(response.json());
}

/** The path of an endpoint, and of what belongs to it. */
export function endpointPath(name, ...parts) {
  return ["/api/v1/endpoints", name, ...parts].map((each, at) => (at ? encodeURIComponent(each) : each)).join("/");
}
