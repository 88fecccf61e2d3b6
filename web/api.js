// Talking to the server: models, streamed answers, and what went wrong in words.

let key = "";
export function setKey(value) {
  key = value;
}

const headers = (json) => ({
  ...(json ? { "Content-Type": "application/json" } : {}),
  ...(key ? { Authorization: `Bearer ${key}` } : {}),
});

// kind: gone, cut, key, busy, too_long, completion_only, refused, server, stopped. title and advice are for the reader.
export class Failure extends Error {
  constructor(kind, title, advice = "", wait = 0) {
    super(title);
    Object.assign(this, { kind, title, advice, wait });
  }
}

const gone = () =>
  new Failure("gone", "The server does not answer.",
              "Look whether fathom serve is still running and this computer reaches it; then try again. Nothing is lost.");

// Seconds of a Retry-After header: a number or a date.
function waitOf(response) {
  const value = response.headers.get("Retry-After");
  if (!value) return 0;
  const seconds = /^\d+$/.test(value) ? Number(value) : Math.ceil((Date.parse(value) - Date.now()) / 1000);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 3600) : 0;
}

function inWords(status, error, wait) {
  const said = (typeof error?.message === "string" ? error.message : "").slice(0, 600);
  const code = error?.code ?? error?.type ?? "";
  if (status === 401 || status === 403) return new Failure("key", "The server asks for an API key.", said);
  if (code === "completion_only")
    return new Failure("completion_only", "This model cannot chat.",
                       "It has no chat template. It can continue a text, though: let it go on from what you wrote.");
  if (code === "context_length_exceeded" || (status === 400 && /context (length|window)|max_model_len|too long/i.test(said)))
    return new Failure("too_long", "This conversation is longer than the model can read.",
                       `Edit an earlier message, leave out a file, lower Max tokens, or begin a new conversation. ${said}`);
  if (status === 429 || status === 503)
    return new Failure("busy", status === 429 ? "The server has more requests than it can take." : "The server is not ready.",
                       wait ? "" : "Try again in a moment.", wait);
  if (status === 404) return new Failure("refused", "The server does not know this model.", `Choose another one above. ${said}`);
  if (status === 413)
    return new Failure("too_long", "The request is larger than the server takes.", "Leave out a file, or begin a new conversation.");
  if (status >= 500) return new Failure("server", "The server failed at this request.", said || "Its log says more.");
  return new Failure("refused", "The server refused this request.", said || `It answered ${status}.`);
}

async function failureOf(response) {
  let error = null;
  try {
    const body = JSON.parse(await response.text());
    error = typeof body.error === "object" ? body.error : { message: body.error ?? body.message ?? "" };
  } catch {
    // no JSON: the status alone
  }
  return inWords(response.status, error, waitOf(response));
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw new Failure("stopped", "Stopped.");
    throw gone();
  }
  if (!response.ok) throw await failureOf(response);
  return response;
}

// [{id, length, completionOnly, defaults}]; defaults: the sampling of requests that do not set it
export async function listModels() {
  const response = await ask("v1/models", { headers: headers(false), cache: "no-store" });
  let body;
  try {
    body = await response.json();
  } catch {
    throw gone();
  }
  return (Array.isArray(body.data) ? body.data : []).filter((m) => typeof m?.id === "string").map((m) => ({
    id: m.id, length: Number.isFinite(m.max_model_len) ? m.max_model_len : 0, completionOnly: m.completion_only === true,
    defaults: m.default_sampling && typeof m.default_sampling === "object" ? m.default_sampling : {},
  }));
}

// The data of server-sent events; comments (keep-alive) are passed over.
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let data = [];
  for (;;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    let end;
    while ((end = rest.indexOf("\n")) >= 0) {
      const line = rest.slice(0, end).replace(/\r$/, "");
      rest = rest.slice(end + 1);
      if (line === "") {
        if (data.length) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
    if (done) return;
  }
}

// kind: "chat" or "text". Yields {text, thinking, finish, usage}, each where there is one. Throws Failure; what was
// yielded before stands.
export async function* streamAnswer(kind, fields, signal) {
  const body = { ...fields, stream: true, stream_options: { include_usage: true } };
  const response = await ask(kind === "chat" ? "v1/chat/completions" : "v1/completions",
                             { method: "POST", headers: headers(true), body: JSON.stringify(body), signal });
  let finished = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      let chunk;
      try {
        chunk = JSON.parse(data);
      } catch {
        throw new Failure("cut", "The answer arrived damaged.", "Try again.");
      }
      if (chunk.error) throw inWords(Number.isInteger(chunk.error.code) ? chunk.error.code : 500, chunk.error, 0);
      const choice = chunk.choices?.[0];
      const part = kind === "chat" ? choice?.delta : choice;
      if (choice?.finish_reason) finished = true;
      yield {
        text: (kind === "chat" ? part?.content : part?.text) || "", thinking: part?.reasoning_content || "",
        finish: choice?.finish_reason || null, usage: chunk.usage || null,
      };
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (signal.aborted) throw new Failure("stopped", "Stopped.");
    if (finished) return;
    throw new Failure("cut", "The connection broke before the answer was complete.",
                      "What had arrived is kept. Look whether fathom serve is still running; then try again.");
  }
  if (!finished) {
    throw new Failure("cut", "The answer ended before it was complete.", "What had arrived is kept. Try again.");
  }
}
