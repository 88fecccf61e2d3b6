// The page of operations: asks the server for its state every other second and shows it. Nothing is kept but the key, for
// as long as the tab is open.
import { $, element } from "./dom.js";

const PAUSE = 2000, POINTS = 150;
let key = "";
try {
  key = sessionStorage.getItem("fathom.admin") ?? "";
} catch {
  // no storage: the key is asked for again
}
const remember = () => {
  try {
    sessionStorage.setItem("fathom.admin", key);
  } catch {
    // as above
  }
};

const number = new Intl.NumberFormat("en");
const count = (n) => (n >= 1e7 ? `${(n / 1e6).toFixed(1)}M` : number.format(n));
const gib = (n) => (n >= 2 ** 30 ? `${(n / 2 ** 30).toFixed(1)} GiB` : `${(n / 2 ** 20).toFixed(0)} MiB`);
const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(part === whole ? 0 : 1)}%` : "–");
const rate = (n) => (n >= 100 ? n.toFixed(0) : n.toFixed(1));
const duration = (s) => {
  const days = Math.floor(s / 86400), hours = Math.floor((s % 86400) / 3600), minutes = Math.floor((s % 3600) / 60);
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(s)} s`;
};

// What each model was at the last look, and the speeds since the page was opened.
const before = new Map();

function speeds(model, uptime) {
  const name = model.names[0], s = model.stats;
  const old = before.get(name);
  const now = { uptime, generated: s.generated_tokens, rows: s.rows, steps: s.steps, history: old?.history ?? [] };
  before.set(name, now);
  if (!old || uptime <= old.uptime || s.steps < old.steps) return { tokens: 0, batch: 0, history: (now.history = []) };
  const seconds = uptime - old.uptime, steps = s.steps - old.steps;
  const tokens = (s.generated_tokens - old.generated) / seconds;
  now.history.push(tokens);
  if (now.history.length > POINTS) now.history.shift();
  return { tokens, batch: steps ? (s.rows - old.rows) / steps : 0, history: now.history };
}

const tile = (label, value, more = "") =>
  element("div", {}, [element("dt", {}, label), element("dd", {}, [value, more ? element("small", {}, ` ${more}`) : ""])]);

function spark(history) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  const most = Math.max(...history, 1);
  const points = history.map((v, i) => `${((i + POINTS - history.length) / (POINTS - 1)) * 300} ${54 - (v / most) * 50}`);
  svg.setAttribute("viewBox", "0 0 300 56");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Tokens a second lately, at most ${rate(most)}`);
  if (points.length > 1) {
    const from = ((POINTS - history.length) / (POINTS - 1)) * 300;
    for (const [cls, d] of [["under", `M${from} 54 L${points.join(" L")} L300 54 Z`], ["", `M${points.join(" L")}`]]) {
      const path = document.createElementNS(ns, "path");
      path.setAttribute("d", d);
      if (cls) path.setAttribute("class", cls);
      svg.append(path);
    }
  }
  return svg;
}

const color = (name) => {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
};
const blend = (a, b, t) => a.map((v, i) => Math.round(v + (b[i] - v) * t));

// A row a layer, a column an expert; its colour says how much more or less than its even share it got.
function heat(experts) {
  const rows = experts.length, columns = experts[0].length;
  const canvas = element("canvas", { width: columns, height: rows, role: "img" });
  const height = Math.max(7, Math.min(18, Math.floor(420 / rows)));
  canvas.style.height = `${rows * height}px`;
  const stops = ["--cold", "--even", "--warm", "--hot"].map(color);  // of 0, 1, 2, 3 times an even share
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  let most = 0;
  experts.forEach((row, y) => {
    const sum = row.reduce((a, b) => a + b, 0);
    row.forEach((n, x) => {
      const share = sum ? (n * columns) / sum : 0;
      most = Math.max(most, share);
      const below = Math.min(Math.floor(share), 2);
      const rgb = blend(stops[below], stops[below + 1], Math.min(share - below, 1));
      image.data.set([...rgb, 255], (y * columns + x) * 4);
    });
  });
  pen.putImageData(image, 0, 0);
  canvas.setAttribute("aria-label", `Load of ${columns} experts in ${rows} layers; the busiest has ${most.toFixed(1)} times its share`);
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const y = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const row = experts[y];
    if (row?.[x] === undefined) return;
    canvas.title = `layer ${y + 1} of those with experts, expert ${x}: ${count(row[x])} tokens, ${percent(row[x], row.reduce((a, b) => a + b, 0))}`;
  });
  const every = Math.ceil(12 / height);
  const labels = element("ol", { "aria-hidden": true }, experts.map((_, y) => element("li", {}, y % every === 0 ? String(y + 1) : "")));
  labels.style.gridTemplateRows = `repeat(${rows}, ${height}px)`;
  return element("div", {}, [
    element("h3", {}, "Expert load, by layer"),
    element("div", { class: "heat" }, [labels, canvas]),
    element("p", { class: "scale" }, ["never", element("i"), `3 times its share or more; the busiest: ${most.toFixed(1)}`]),
  ]);
}

function modelSection(model, uptime) {
  const s = model.stats;
  const title = element("h2", {}, [model.names[0], element("span", { class: `state ${model.state}` }, model.state),
    element("small", {}, [model.names.slice(1).join(", "), model.bytes ? ` ${gib(model.bytes)}` : ""])]);
  const section = element("section", { "data-model": model.names[0] }, [title]);
  if (model.error) section.append(element("p", { class: "note bad" }, model.error));
  if (!s) {
    section.append(element("p", { class: "note" }, model.waiting ? `${model.waiting} requests wait for it` : `It is ${model.error ? "tried again" : "loaded"} when it is asked for.`));
    return section;
  }
  const now = speeds(model, uptime);
  section.append(element("dl", { class: "tiles" }, [
    tile("Waiting", count(s.waiting + model.waiting)),
    tile("Running", count(s.running), `of ${model.max_running}`),
    tile("Tokens/s", rate(now.tokens)),
    tile("Rows a step", now.batch ? rate(now.batch) : "–"),
    tile("Cache in use", percent(s.blocks_used, s.blocks), gib(model.cache_bytes)),
    tile("Cache kept", percent(s.blocks_cached, s.blocks)),
    tile("Prefix hits", percent(s.prefix_hits, s.prefix_queries)),
    tile("Drafts kept", percent(s.accepted, s.drafted), s.drafted ? `of ${s.drafted >= 1e6 ? `${(s.drafted / 1e6).toFixed(1)}M` : count(s.drafted)}` : ""),
    tile("Preempted", count(s.preemptions)),
    tile("Answers", count(s.finished[0] + s.finished[1]), s.finished[3] ? `${s.finished[3]} failed` : ""),
    tile("Prompt tokens", count(s.prompt_tokens)),
    tile("Written", count(s.generated_tokens)),
  ]));
  section.append(spark(now.history));
  if (model.experts?.length) section.append(heat(model.experts));
  return section;
}

const limit = (left, most) => (most ? `${count(Math.max(left, 0))} of ${count(most)}` : "–");

function showKeys(keys) {
  const head = ["Key", "Running", "Requests", "Errors", "Prompt", "of it cached", "Written", "Requests left", "Tokens left", "Refused"];
  const rows = keys.map((k) => {
    const sum = (field) => k.usage.reduce((all, row) => all + row[field], 0);
    return [k.name + (k.gone ? " (gone)" : ""), k.gone ? "–" : count(k.running) + (k.concurrent ? ` of ${k.concurrent}` : ""),
      ...["requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens"].map((f) => count(sum(f))),
      k.gone ? "–" : limit(k.requests_left, k.requests_per_minute), k.gone ? "–" : limit(k.tokens_left, k.tokens_per_minute),
      count(k.refused ?? 0)];
  });
  $("keys").replaceChildren(
    element("thead", {}, element("tr", {}, head.map((h) => element("th", { scope: "col" }, h)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell) => element("td", {}, cell))))));
}

function show(state) {
  const limitText = state.memory_limit ? `, models may take ${gib(state.memory_limit)}` : "";
  $("about").textContent = `${state.version}, up ${duration(state.uptime)}, ${gib(state.resident_bytes)} resident${limitText}` +
    (state.draining ? ", shutting down" : "");
  $("models").replaceChildren(...state.models.map((m) => modelSection(m, state.uptime)));
  const a = state.accounting;
  $("accounting").className = a && !a.up ? "note bad" : "note";
  $("accounting").textContent = !a || !a.kept ? "Since the server began; --usage-db keeps it." :
    a.up ? "Since the server began; fathom usage shows what was before." : `Not being written: ${a.error}`;
  showKeys(state.keys);
}

function gate(wrong) {
  $("gate").hidden = false;
  $("board").hidden = $("leave").hidden = true;
  $("wrong").textContent = wrong ? "That is no admin key of this server." : "";
  $("key").focus();
}

let timer = 0;
async function look() {
  clearTimeout(timer);
  if (!key) return gate(false);
  try {
    const response = await fetch("admin/state", { headers: { Authorization: `Bearer ${key}` }, cache: "no-store" });
    if (response.status === 401) {
      key = "";
      remember();
      return gate(true);
    }
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    show(await response.json());
    remember();
    $("gate").hidden = $("trouble").hidden = true;
    $("board").hidden = $("leave").hidden = false;
  } catch (error) {
    $("trouble").textContent = `The server does not answer (${error.message}); trying again.`;
    $("trouble").hidden = false;
  }
  timer = setTimeout(look, document.hidden ? PAUSE * 5 : PAUSE);
}

$("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  look();
});
$("leave").addEventListener("click", () => {
  key = "";
  remember();
  gate(false);
});
$("theme").addEventListener("click", () => window.fathomTheme.next());
document.addEventListener("visibilitychange", () => document.hidden || look());
look();
