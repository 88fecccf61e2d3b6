// A conversation is a tree of messages: an edit or another answer is a new branch beside the old one. Each node knows
// which of its children is shown; the path from the root along those is what is on the page and what the model is sent.
// Everything here is plain data (JSON) and functions on it.

import { cleanSettings } from "./settings.js";

export const kFormat = "fathom-conversations";
export const kVersion = 1;
const kRoot = "root";

export const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

// kind: "chat" (messages) or "text" (a text that the model continues).
export function newConversation(kind, settings) {
  const now = Date.now();
  return {
    id: newId(), title: "", named: false, kind, model: "", created: now, updated: now, settings: { ...settings },
    nodes: { [kRoot]: { id: kRoot, parent: null, role: "root", children: [], shown: null } },
  };
}

export function addNode(conversation, parent, fields) {
  const node = {
    id: newId(), parent: parent ?? kRoot, role: "user", text: "", thinking: "", files: [], children: [], shown: null,
    created: Date.now(), stats: null, finish: null, error: null, ...fields,
  };
  conversation.nodes[node.id] = node;
  const above = conversation.nodes[node.parent];
  above.children.push(node.id);
  above.shown = node.id;
  return node;
}

export function removeNode(conversation, id) {
  const node = conversation.nodes[id];
  const above = conversation.nodes[node.parent];
  const at = above.children.indexOf(id);
  above.children.splice(at, 1);
  if (above.shown === id) above.shown = above.children[Math.min(at, above.children.length - 1)] ?? null;
  const gone = [id];
  while (gone.length) {
    const next = gone.pop();
    gone.push(...conversation.nodes[next].children);
    delete conversation.nodes[next];
  }
}

export function path(conversation) {
  const nodes = [];
  for (let id = conversation.nodes[kRoot].shown; id; id = conversation.nodes[id].shown) nodes.push(conversation.nodes[id]);
  return nodes;
}

// The nodes above `id`, from the first on.
export function above(conversation, id) {
  const nodes = [];
  for (let at = conversation.nodes[id].parent; at !== kRoot; at = conversation.nodes[at].parent) {
    nodes.unshift(conversation.nodes[at]);
  }
  return nodes;
}

export const last = (conversation) => path(conversation).at(-1) ?? null;

export function branches(conversation, id) {
  const siblings = conversation.nodes[conversation.nodes[id].parent].children;
  return { index: siblings.indexOf(id), count: siblings.length };
}

export function showBranch(conversation, id, step) {
  const parent = conversation.nodes[conversation.nodes[id].parent];
  const to = parent.children[parent.children.indexOf(id) + step];
  if (to) parent.shown = to;
  return to;
}

export function titleFrom(text) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ").replace(/^[#>*\-\s]+/, "");
  return line.length > 60 ? `${line.slice(0, 57).replace(/\s+\S*$/, "")}…` : line;
}

// What a search looks through.
export function contents(conversation) {
  const parts = [conversation.title];
  for (const node of Object.values(conversation.nodes)) parts.push(node.text ?? "", ...(node.files ?? []).map((f) => f.name));
  return parts.join("\n");
}

// DeepSeek's template for files, then the question.
export function withFiles(node) {
  const files = node.files.map((f) => `[file name]: ${f.name}\n[file content begin]\n${f.text}\n[file content end]\n`);
  return files.join("") + node.text;
}

// The messages that the answer `id` is asked for with.
export function messages(conversation, id) {
  const list = [];
  const system = (conversation.settings.system ?? "").trim();
  if (system) list.push({ role: "system", content: system });
  for (const node of above(conversation, id)) {
    if (node.role === "user") list.push({ role: "user", content: withFiles(node) });
    else if (node.text) list.push({ role: "assistant", content: node.text });
  }
  return list;
}

// What stands between two passages of a text: nothing where either side has white space or the second goes on a word or
// ends a sentence, else a space.
export function joint(before, after) {
  if (!before || !after || /\s$/.test(before) || /^[\s,.;:!?'’)\]}…-]/.test(after)) return "";
  return " ";
}

export function textOf(nodes) {
  let text = "";
  for (const node of nodes) text += (node.role === "user" ? joint(text, node.text) : "") + node.text;
  return text;
}

// ---- files

export function exported(conversations) {
  return { format: kFormat, version: kVersion, exported: new Date().toISOString(), conversations };
}

const text = (value, otherwise = "") => (typeof value === "string" ? value : otherwise);
const number = (value, otherwise) => (Number.isFinite(value) ? value : otherwise);
const plain = (value) => (value && typeof value === "object" && !Array.isArray(value) ? value : null);

function readNode(raw, ids) {
  const node = {
    id: raw.id, parent: raw.parent, role: raw.role === "assistant" ? "assistant" : "user", text: text(raw.text),
    thinking: text(raw.thinking), created: number(raw.created, Date.now()), stats: plain(raw.stats),
    finish: text(raw.finish, null), error: null, children: [], shown: null,
    files: (Array.isArray(raw.files) ? raw.files : []).filter(plain).map((f) => ({ name: text(f.name), text: text(f.text) })),
  };
  const children = Array.isArray(raw.children) ? raw.children : [];
  const isChild = (c) => /^[0-9a-f]{24}$/.test(c) && plain(ids[c]) && ids[c].id === c && ids[c].parent === raw.id;
  node.children = [...new Set(children)].filter(isChild);
  node.shown = node.children.includes(raw.shown) ? raw.shown : node.children.at(-1) ?? null;
  return node;
}

// One conversation of a file, field by field: what does not have its type is left out. Null if it is none.
function readConversation(raw) {
  if (!plain(raw) || !plain(raw.nodes) || !plain(raw.nodes[kRoot])) return null;
  const made = newConversation(raw.kind === "text" ? "text" : "chat", cleanSettings(raw.settings));
  Object.assign(made, {
    title: text(raw.title), named: raw.named === true, model: text(raw.model), created: number(raw.created, made.created),
    updated: number(raw.updated, made.updated),
  });
  made.nodes = {};
  const waiting = [kRoot];
  while (waiting.length) {
    const id = waiting.pop();
    const node = readNode(raw.nodes[id], raw.nodes);
    if (id === kRoot) Object.assign(node, { id: kRoot, parent: null, role: "root" });
    if (made.nodes[id]) continue;
    made.nodes[id] = node;
    waiting.push(...node.children);
  }
  return made;
}

// The conversations of an exported file. Throws Error in words.
export function imported(fileText) {
  let raw;
  try {
    raw = JSON.parse(fileText);
  } catch {
    throw new Error("it is not JSON");
  }
  if (!plain(raw) || raw.format !== kFormat) throw new Error("it is not an export of this page");
  if (raw.version > kVersion) throw new Error("it was written by a newer version of this page");
  const list = (Array.isArray(raw.conversations) ? raw.conversations : []).map(readConversation).filter(Boolean);
  if (!list.length) throw new Error("there is no conversation in it");
  return list;
}
