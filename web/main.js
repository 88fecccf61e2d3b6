// The page: which conversation is shown, what its buttons do, what is saved when.
import { Announcer } from "./announcer.js";
import { listModels, setKey } from "./api.js";
import { Composer } from "./composer.js";
import { $, download, element, toast } from "./dom.js";
import { Manuscript } from "./manuscript.js";
import { Run } from "./run.js";
import { cleanSettings, countSet, showPanel } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { remembered, Store } from "./store.js";
import {
  addNode, branches, exported, imported, last, newConversation, newId, path, removeNode, showBranch, titleFrom,
} from "./tree.js";
import { MessageView } from "./views.js";
import { welcome } from "./welcome.js";
import { count } from "./words.js";

const kSaveEvery = 1500;  // ms, while an answer streams

const store = new Store();
const announcer = new Announcer($("announcer"));
const runs = new Map();      // conversation id -> Run
const completionOnly = new Set(remembered.get("completionOnly", []));
let models = [];
let items = [];              // of the list
let current = null;          // the conversation shown
let views = new Map();       // node id -> MessageView
let manuscript = null;
let stick = true;            // the end of the conversation stays in sight
let frame = 0;

const scroll = $("scroll");
const phone = matchMedia("(max-width: 860px)");
const wide = matchMedia("(min-width: 1180px)");

// ---- models

const model = () => models.find((m) => m.id === $("model").value) ?? null;
const canChat = (id) => !completionOnly.has(id) && !models.find((m) => m.id === id)?.completionOnly;
const kindFor = (id) => (canChat(id) ? "chat" : "text");

async function readModels() {
  try {
    models = await listModels();
    showNotice(models.length ? "" : "The server has no model.");
  } catch (failure) {
    models = [];
    if (failure.kind === "key") return askKey();
    showNotice(`${failure.title} ${failure.advice}`, "Try again", readModels);
  }
  const chosen = models.find((m) => m.id === (current?.model || remembered.get("model"))) ?? models[0];
  $("model").replaceChildren(...models.map((m) => element("option", { value: m.id }, m.id)));
  $("model").value = chosen?.id ?? "";
  $("model").disabled = models.length < 2;
  if (current && !last(current)) current.kind = kindFor(chosen?.id);
  draw();
}

function showNotice(text, action, onAction) {
  $("notice").hidden = !text;
  $("notice").replaceChildren(text);
  if (!text || !action) return;
  const act = element("button", { type: "button" }, action);
  act.addEventListener("click", onAction);
  $("notice").append(act);
}

let afterKey = null;
function askKey(then = null) {
  afterKey = then;
  $("key-wrong").hidden = !remembered.get("key");
  $("key").value = "";
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

$("key-form").addEventListener("submit", async () => {
  const key = $("key").value.trim();
  remembered.set("key", key);
  setKey(key);
  await readModels();
  if (models.length) afterKey?.();
});
$("key-cancel").addEventListener("click", () => {
  $("key-dialog").close();
  withoutKey();
});
$("key-dialog").addEventListener("cancel", withoutKey);
function withoutKey() {
  if (!models.length) showNotice("The server asks for an API key.", "Enter the key", () => askKey());
}

// ---- saving

const unsaved = new Map();  // id -> timer
function save(conversation, soon = false) {
  if (soon && unsaved.has(conversation.id)) return;
  clearTimeout(unsaved.get(conversation.id));
  const write = async () => {
    unsaved.delete(conversation.id);
    try {
      await store.put(conversation);
    } catch {
      toast("The browser did not keep this conversation: its storage is full or closed.", "Export it",
            () => saveFile(conversation.id));
    }
  };
  if (soon) unsaved.set(conversation.id, setTimeout(write, kSaveEvery));
  else write();
  const item = { id: conversation.id, title: conversation.title, kind: conversation.kind, updated: conversation.updated };
  items = [item, ...items.filter((i) => i.id !== item.id)].sort((a, b) => b.updated - a.updated);
  if (!soon) sidebar.set(items, current?.id);
}

addEventListener("pagehide", () => {
  for (const [id, timer] of unsaved) {
    clearTimeout(timer);
    const run = runs.get(id);
    if (run) store.put(run.conversation);
  }
});

// ---- which conversation

const loaded = (id) => runs.get(id)?.conversation ?? (current?.id === id ? current : null);

async function open(id) {
  const conversation = loaded(id) ?? (await store.get(id));
  if (!conversation) return fresh();
  if (!runs.has(id)) {
    for (const node of Object.values(conversation.nodes)) {
      if (node.role === "assistant" && !node.finish && !node.error) node.finish = "closed";
    }
  }
  show(conversation);
  if (models.some((m) => m.id === conversation.model)) $("model").value = conversation.model;
  history.replaceState(null, "", `#${id}`);
}

function fresh(kind) {
  show(newConversation(kind ?? kindFor($("model").value), cleanSettings(remembered.get("settings", {}))));
  history.replaceState(null, "", location.pathname + location.search);
}

function show(conversation) {
  current = conversation;
  views = new Map();
  manuscript = null;
  stick = true;
  $("thread").replaceChildren();
  announcer.begin();
  draw();
  drawPanel();
  sidebar.set(items, current.id);
  closeDrawers();
  composer.focus();
}

// ---- drawing

function draw() {
  if (!current) return;
  const run = runs.get(current.id);
  const nodes = path(current);
  const title = current.title || (current.kind === "text" ? "New text" : "New conversation");
  $("title").textContent = title;
  document.title = nodes.length ? `${title} · fathom` : "fathom";
  $("mode").hidden = current.kind !== "text";
  $("thread").classList.toggle("as-text", current.kind === "text");
  composer.draw({ kind: current.kind, running: Boolean(run), begun: nodes.length > 0 });
  drawContext(nodes);
  if (!nodes.length) {
    views = new Map();
    manuscript = null;
    $("thread").replaceChildren(welcome(current.kind, model(), (text) => {
      composer.set(text);
      $("send").click();
    }, canChat(model()?.id) && (() => setKind(current.kind === "text" ? "chat" : "text"))));
    return;
  }
  if (current.kind === "text") {
    if (!manuscript) {
      manuscript = new Manuscript(current, act);
      $("thread").replaceChildren(manuscript.element);
    }
    manuscript.draw(run, Boolean(run));
  } else {
    drawMessages(nodes, run);
  }
  follow();
}

function drawMessages(nodes, run) {
  const kept = new Map();
  for (const node of nodes) {
    const view = views.get(node.id) ?? new MessageView(current, node, act);
    kept.set(node.id, view);
    view.draw(run?.node === node ? run : null, Boolean(run));
  }
  views = kept;
  const thread = $("thread");
  const elements = [...kept.values()].map((view) => view.element);
  elements.forEach((e, i) => thread.children[i] !== e && thread.insertBefore(e, thread.children[i] ?? null));
  while (thread.children.length > elements.length) thread.lastChild.remove();
}

// While an answer streams: at most once a frame, and only what grows.
function drawRunning() {
  frame = 0;
  const run = runs.get(current?.id);
  if (!run) return;
  if (current.kind === "text") manuscript?.draw(run, true);
  else views.get(run.node.id)?.draw(run, true);
  announcer.update(run.node.text);
  follow();
}

function drawContext(nodes) {
  const used = nodes.findLast((n) => n.stats?.prompt)?.stats;
  const length = model()?.length;
  const words = [];
  const full = used && length && used.prompt + used.tokens > 0.9 * length;
  if (used) words.push(`${count(used.prompt + used.tokens)}${length ? ` of ${count(length)}` : ""} tokens of context`);
  if (full) words.push(current.kind === "text" ? "the model goes on from the end of the text" : "nearly full");
  if (!store.lasting) words.push("this browser keeps nothing: export what you need");
  $("status").textContent = words.join(" · ");
}

function follow() {
  if (stick) scroll.scrollTop = scroll.scrollHeight;
  showLatest();
}
const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 48;
const showLatest = () => ($("latest").hidden = atEnd());
scroll.addEventListener("scroll", () => {
  stick = atEnd();
  showLatest();
}, { passive: true });
new ResizeObserver(() => follow()).observe($("dock"));
$("latest").addEventListener("click", () => {
  stick = true;
  follow();
});

// ---- answers

function startRun(conversation, node) {
  const run = new Run(conversation, node, model() ?? { id: conversation.model, length: 0 }, () => {
    if (run.discarded) return;
    save(conversation, true);
    if (conversation === current) frame ||= requestAnimationFrame(drawRunning);
  }, () => endRun(run));
  runs.set(conversation.id, run);
  conversation.model = run.model;
  conversation.updated = Date.now();
  remembered.set("model", run.model);
  if (conversation === current) {
    stick = true;
    announcer.begin();
    announcer.say("The answer has begun.");
  }
  run.start();
  save(conversation);
  draw();
}

function endRun(run) {
  const { conversation, node } = run;
  if (run.discarded) return;
  runs.delete(conversation.id);
  cancelAnimationFrame(frame);
  frame = 0;
  if (node.error?.kind === "completion_only") {
    completionOnly.add(run.model);
    remembered.set("completionOnly", [...completionOnly]);
  }
  // Stopped before anything came, beside other versions: there is nothing to keep.
  if (node.finish === "stopped" && !node.text && !node.thinking && branches(conversation, node.id).count > 1) {
    removeNode(conversation, node.id);
  }
  save(conversation);
  if (conversation !== current) return;
  draw();
  drawPanel();
  announcer.end(node.text, node.error ? "" : run.stopped ? "Stopped." : "The answer is complete.");
}

const answer = (conversation, parent) => startRun(conversation, addNode(conversation, parent, { role: "assistant" }));

// What the buttons of messages do.
const act = {
  branch(node, step) {
    if (!showBranch(current, node.id, step)) return;
    save(current);
    draw();
    announcer.say(`Version ${branches(current, node.id).index + step + 1}`);
  },
  regenerate: (node) => answer(current, node.parent),
  retry(node) {
    if (runs.has(current.id)) return;
    if (node.text || node.thinking) answer(current, node.parent);
    else startRun(current, node);
  },
  saveEdit(node, text) {
    const asks = node.role === "user" && current.kind === "chat";
    if (text === node.text && !asks) return draw();
    const made = addNode(current, node.parent, { role: node.role, text, files: node.files, model: node.model, finish: node.finish });
    if (asks) answer(current, made.id);
    else {
      save(current);
      draw();
    }
  },
  continueAsText(node) {
    const text = path(current).filter((n) => n.role === "user").map((n) => n.text).join("\n\n");
    const only = Object.keys(current.nodes).length <= 3;
    if (only) {
      removeNode(current, node.id);
      current.kind = "text";
      delete current.settings.system;
      show(current);
      answer(current, last(current).id);
    } else {
      fresh("text");
      submit(text, []);
    }
  },
  askKey: (node) => askKey(() => act.retry(node)),
  fresh: () => fresh(),
};

function submit(text, files) {
  const conversation = current;
  if (runs.has(conversation.id)) return false;
  if (!models.length) {
    readModels();
    toast("The server does not answer yet.");
    return false;
  }
  const words = conversation.kind === "text" ? text.replace(/[ \t]+$/, "") : text.trim();
  let parent = last(conversation)?.id;
  // A failed answer without text is not built upon: the new message takes its place.
  if (parent && conversation.nodes[parent].error && !conversation.nodes[parent].text) {
    const failed = parent;
    parent = conversation.nodes[failed].parent;
    removeNode(conversation, failed);
    if (!words && !files.length) return answer(conversation, parent), true;
  }
  if (words.trim() || files.length) parent = addNode(conversation, parent, { text: words, files: [...files] }).id;
  if (!parent) return false;
  if (!conversation.title) conversation.title = titleFrom(words) || files[0]?.name || "Untitled";
  history.replaceState(null, "", `#${conversation.id}`);
  answer(conversation, parent);
  return true;
}

// ---- the parts around the conversation

const composer = new Composer({
  send: submit,
  stop: () => runs.get(current.id)?.stop(),
  editLast() {
    if (current.kind !== "chat" || runs.has(current.id)) return false;
    const node = path(current).findLast((n) => n.role === "user");
    views.get(node?.id)?.edit();
    return Boolean(node);
  },
});

function fileName(title) {
  const words = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40);
  return `fathom-${words || "conversation"}.json`;
}

async function saveFile(id) {
  const conversation = loaded(id) ?? (await store.get(id));
  download(fileName(conversation.title), JSON.stringify(exported([conversation]), null, 1));
}

const sidebar = new Sidebar({
  open,
  search: (query) => store.search(query),
  save: saveFile,
  async rename(id, title) {
    const conversation = loaded(id) ?? (await store.get(id));
    Object.assign(conversation, { title, named: true });
    save(conversation);
    draw();
  },
  async remove(id) {
    const conversation = loaded(id) ?? (await store.get(id));
    if (!conversation) return;
    const run = runs.get(id);
    if (run) {
      run.discarded = true;
      run.stop();
      runs.delete(id);
    }
    clearTimeout(unsaved.get(id));
    unsaved.delete(id);
    await store.remove(id);
    items = items.filter((item) => item.id !== id);
    if (current.id === id) fresh();
    sidebar.set(items, current.id);
    toast(`“${conversation.title || "Untitled"}” was deleted.`, "Undo", () => {
      save(conversation);
      open(id);
    });
  },
});

$("new").addEventListener("click", () => fresh());
$("export").addEventListener("click", async () => {
  const all = await store.all();
  if (!all.length) return toast("There is nothing to export yet.");
  download(`fathom-conversations-${new Date().toISOString().slice(0, 10)}.json`, JSON.stringify(exported(all), null, 1));
});
$("import").addEventListener("click", () => $("import-file").click());
$("import-file").addEventListener("change", async (event) => {
  let taken = 0;
  for (const file of [...event.target.files]) {
    try {
      for (const conversation of imported(await file.text())) {
        conversation.id = newId();
        await store.put(conversation);
        ++taken;
      }
    } catch (error) {
      toast(`${file.name} was not imported: ${error.message}.`);
    }
  }
  event.target.value = "";
  if (!taken) return;
  items = await store.list();
  sidebar.set(items, current.id);
  toast(taken === 1 ? "One conversation was imported." : `${taken} conversations were imported.`);
});

$("model").addEventListener("change", () => {
  remembered.set("model", $("model").value);
  if (!last(current)) current.kind = kindFor($("model").value);
  draw();
  drawPanel();
});

function drawTheme() {
  const choice = document.documentElement.dataset.themeChoice;
  $("theme").querySelector("use").setAttribute("href", `#i-${choice}`);
  const label = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" }[choice];
  $("theme").setAttribute("aria-label", label);
  $("theme").title = label;
}
$("theme").addEventListener("click", () => {
  window.fathomTheme.next();
  drawTheme();
});

// Of a conversation that has not begun.
function setKind(kind) {
  current.kind = kind;
  draw();
  drawPanel();
  composer.focus();
}

function drawPanel() {
  $("panel-open").classList.toggle("set", countSet(current.settings) > 0);
  if ($("panel").hidden) return;
  showPanel($("panel"), current, {
    canChat: canChat($("model").value), canSwitch: !last(current), onClose: closeDrawers,
    defaults: model()?.defaults,
    onChange() {
      remembered.set("settings", current.settings);
      $("panel-open").classList.toggle("set", countSet(current.settings) > 0);
      if (last(current)) save(current, true);
    },
    onKind(kind) {
      setKind(kind);
      $("panel").querySelector("input:checked")?.focus();
    },
  });
}

// ---- drawers: the list on narrow screens, the settings on all

let opener = null;
function drawer(name, show) {
  const panel = name === "panel";
  if (panel) $("panel").hidden = !show;
  else $("app").classList.toggle("side", show);
  $(panel ? "panel-open" : "side-open").setAttribute("aria-expanded", String(show));
  const over = show && (panel ? !wide.matches : phone.matches);
  $("veil").hidden = !over;
  $("main").inert = over;
  $("sidebar").inert = phone.matches && !$("app").classList.contains("side");
  if (!show) return;
  opener = document.activeElement;
  if (panel) drawPanel();
  (panel ? $("panel").querySelector("button") : $("new")).focus();
}

// Those that lie over the conversation; beside it they stay until they are closed on purpose (event given).
function closeDrawers(event) {
  if ($("app").classList.contains("side")) drawer("side", false);
  if (!$("panel").hidden && (event || !wide.matches)) drawer("panel", false);
  else if ($("panel").hidden) drawer("panel", false);
  if (event && opener?.isConnected) opener.focus();
}
$("side-open").addEventListener("click", () => drawer("side", true));
$("side-close").addEventListener("click", closeDrawers);
$("panel-open").addEventListener("click", (event) => ($("panel").hidden ? drawer("panel", true) : closeDrawers(event)));
$("veil").addEventListener("click", closeDrawers);
phone.addEventListener("change", () => closeDrawers());
wide.addEventListener("change", () => closeDrawers());

addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (phone.matches) drawer("side", true);
    $("search").focus();
    $("search").select();
  } else if (event.key === "Escape" && !$("key-dialog").open) {
    if (!$("veil").hidden) closeDrawers(event);
    else if (runs.has(current?.id)) runs.get(current.id).stop();
    else if (!$("panel").hidden && $("panel").contains(document.activeElement)) closeDrawers(event);
    else composer.focus();
  }
});

// ---- beginning

async function begin() {
  setKey(remembered.get("key", ""));
  drawTheme();
  await store.open(async (id) => {
    if (runs.has(id)) return;
    items = await store.list();
    if (current?.id === id && !unsaved.has(id)) {
      const theirs = await store.get(id);
      if (theirs) show(theirs);
    }
    sidebar.set(items, current?.id);
  });
  items = await store.list();
  const id = location.hash.slice(1);
  if (items.some((item) => item.id === id)) await open(id);
  else fresh();
  drawer("side", false);
  composer.focus();
  await readModels();
  if (current && !last(current)) drawPanel();
}
begin();
