// Small helpers for building the page. Text always becomes text nodes; HTML comes only from markdown.js, sanitised.

export const $ = (id) => document.getElementById(id);

// Attributes that are true are set empty, false and undefined ones are left out; `value` and `checked` are properties.
export function element(name, attributes = {}, children = []) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (key === "value" || key === "checked") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...[children].flat().filter((c) => c !== "" && c !== null && c !== undefined));
  return made;
}

export function icon(name) {
  const kSvg = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(kSvg, "svg");
  const use = document.createElementNS(kSvg, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export function button(label, iconName, onClick, attributes = {}) {
  const made = element("button", { type: "button", class: "icon", "aria-label": label, title: label, ...attributes }, icon(iconName));
  made.addEventListener("click", onClick);
  return made;
}

export async function copyText(text) {
  if (navigator.clipboard && isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // no permission: the old way below
    }
  }
  const area = element("textarea", { class: "hidden", value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

// A copy button that shows for a moment that it has copied.
export function copyButton(label, textOf) {
  const made = button(label, "copy", async () => {
    if (!(await copyText(textOf()))) return;
    made.querySelector("use").setAttribute("href", "#i-done");
    made.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      made.querySelector("use").setAttribute("href", "#i-copy");
      made.setAttribute("aria-label", label);
    }, 1500);
  });
  return made;
}

export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

let toastTimer = 0;
// A line at the bottom for a while, with at most one thing to do.
export function toast(text, action, onAction) {
  const box = $("toast");
  box.replaceChildren(element("span", {}, text));
  if (action) {
    const act = element("button", { type: "button", class: "quiet" }, action);
    act.addEventListener("click", () => {
      box.hidden = true;
      onAction();
    });
    box.append(act);
  }
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (box.hidden = true), action ? 8000 : 4000);
}

const waiting = new Map();
// A script of this server, loaded when it is first needed.
export function loadScript(url) {
  if (!waiting.has(url)) {
    waiting.set(url, new Promise((resolve, reject) => {
      const script = element("script", { src: url });
      script.addEventListener("load", resolve);
      script.addEventListener("error", () => {
        waiting.delete(url);
        reject(new Error(`${url} did not load`));
      });
      document.head.append(script);
    }));
  }
  return waiting.get(url);
}
