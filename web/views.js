// Messages on the page. A view belongs to one node; `act` holds what its buttons do.
import { button, copyButton, element, icon } from "./dom.js";
import { StreamView } from "./stream_view.js";
import { branches } from "./tree.js";
import { count, seconds, statParts } from "./words.js";

// ‹ 2/3 ›
export function branchSwitch(conversation, node, act, busy) {
  const { index, count: number } = branches(conversation, node.id);
  if (number < 2) return "";
  return element("span", { class: "branches", role: "group", "aria-label": `Version ${index + 1} of ${number}` }, [
    button("Previous version", "left", () => act.branch(node, -1), { disabled: busy || index === 0 }),
    element("span", { "aria-hidden": "true" }, `${index + 1}/${number}`),
    button("Next version", "right", () => act.branch(node, +1), { disabled: busy || index === number - 1 }),
  ]);
}

export function statLine(node, finish = node.finish) {
  const parts = statParts(node.stats, finish);
  return element("span", { class: "stats" }, parts.map(([words, title]) => element("span", { title }, words)));
}

// What went wrong, and what to do about it.
export function trouble(node, act) {
  const { kind, title, advice, wait } = node.error;
  const box = element("div", { class: "trouble", role: "alert" }, [
    element("strong", {}, title), advice ? element("p", {}, advice) : "",
  ]);
  const row = element("div", { class: "row" });
  const add = (words, onClick, primary) => {
    const made = element("button", { type: "button", class: primary ? "primary" : "" }, words);
    made.addEventListener("click", onClick);
    row.append(made);
    return made;
  };
  if (kind === "completion_only") add("Continue it as a text", () => act.continueAsText(node), true);
  else if (kind === "key") add("Enter the key", () => act.askKey(node), true);
  else if (kind === "too_long") add("New conversation", () => act.fresh(), true);
  if (kind !== "completion_only" && kind !== "key") {
    const again = add("Try again", () => act.retry(node), kind !== "too_long");
    if (wait) countdown(again, node, act);
  }
  box.append(row);
  return box;
}

// The server said when to come back: the button counts down and then presses itself.
function countdown(again, node, act) {
  const until = (node.error.until ??= Date.now() + node.error.wait * 1000);
  const keep = element("button", { type: "button", class: "quiet" }, "Do not wait");
  const timer = setInterval(() => {
    if (!again.isConnected) return clearInterval(timer);
    const left = Math.ceil((until - Date.now()) / 1000);
    again.textContent = `Trying again in ${Math.max(left, 0)} s`;
    if (left > 0) return;
    clearInterval(timer);
    act.retry(node);
  }, 250);
  again.textContent = `Trying again in ${node.error.wait} s`;
  keep.addEventListener("click", () => {
    clearInterval(timer);
    node.error.wait = 0;
    again.textContent = "Try again";
    keep.remove();
  });
  queueMicrotask(() => again.after(keep));
}

// A text field in place of a message.
export function editor(text, { save, saveLabel, onSave, onCancel, label }) {
  const area = element("textarea", { value: text, "aria-label": label, rows: 1 });
  const fit = () => {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  };
  area.addEventListener("input", fit);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing && (event.ctrlKey || event.metaKey || (save === "enter" && !event.shiftKey))) {
      event.preventDefault();
      onSave(area.value);
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      onCancel();
    }
  });
  const keep = element("button", { type: "button", class: "primary" }, saveLabel);
  const cancel = element("button", { type: "button" }, "Cancel");
  keep.addEventListener("click", () => onSave(area.value));
  cancel.addEventListener("click", onCancel);
  queueMicrotask(() => {
    fit();
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  });
  return element("div", { class: "editor" }, [area, element("div", { class: "row" }, [cancel, keep])]);
}

export function fileChip(file, onRemove) {
  const size = file.text.length < 1000 ? `${file.text.length}` : `${count(Math.round(file.text.length / 1000))} k`;
  return element("li", { class: "file" }, [
    icon("attach"), element("span", {}, file.name), element("small", {}, `${size} characters`),
    onRemove ? button(`Remove ${file.name}`, "close", onRemove) : "",
  ]);
}

export class MessageView {
  #stream = null;
  #thinking = null;  // {box, summary, stream, complete}
  #editing = false;

  constructor(conversation, node, act) {
    Object.assign(this, { conversation, node, act });
    this.body = element("div", { class: node.role === "user" ? "words" : "prose" });
    this.foot = element("div", { class: "foot" });
    this.extra = element("div", { class: "extra" });
    this.element = element("article", {
      class: `message ${node.role}`, "data-node": node.id, "aria-label": node.role === "user" ? "You" : node.model || "Answer",
    }, [this.body, this.extra, this.foot]);
    if (node.files.length) {
      this.body.before(element("ul", { class: "files", "aria-label": "Files" }, node.files.map((f) => fileChip(f))));
    }
  }

  // Draws what has changed. `run`: the answer is being made now; `busy`: some answer of the conversation is.
  draw(run, busy) {
    const { node } = this;
    if (this.#editing) return;
    this.element.classList.toggle("running", Boolean(run));
    this.element.setAttribute("aria-busy", String(Boolean(run)));
    if (node.role === "user") {
      this.body.textContent = node.text;
    } else {
      this.#drawThinking(run);
      this.#stream ??= new StreamView(this.body);
      this.#stream.update(node.text, !run);
      this.body.classList.toggle("waiting", Boolean(run) && !node.text && !node.thinking);
    }
    if (this.drawnBusy === busy && run && this.foot.firstChild) {
      this.foot.querySelector(".stats")?.replaceWith(statLine(node));
      return;
    }
    this.drawnBusy = busy;
    this.extra.replaceChildren(node.error ? trouble(node, this.act) : "");
    this.#drawFoot(run, busy);
  }

  #drawFoot(run, busy) {
    const { node, act } = this;
    const parts = [branchSwitch(this.conversation, node, act, busy)];
    if (!run && !(node.error && !node.text)) {
      if (node.text) parts.push(copyButton("Copy", () => node.text));
      if (node.role === "assistant") parts.push(button("Another answer", "again", () => act.regenerate(node), { disabled: busy }));
      parts.push(button("Edit", "edit", () => this.edit(), { disabled: busy }));
    }
    if (node.role === "assistant") parts.push(statLine(node));
    this.foot.replaceChildren(...parts.filter(Boolean));
  }

  #drawThinking(run) {
    const { node } = this;
    if (!node.thinking) return;
    if (!this.#thinking) {
      const summary = element("summary");
      const body = element("div", { class: "prose" });
      const box = element("details", { class: "thinking" }, [summary, body]);
      this.#thinking = { box, summary, stream: new StreamView(body) };
      box.addEventListener("toggle", () => this.#drawThoughts());
      this.body.before(box);
    }
    const thinks = run && !node.text;
    const thought = node.stats?.thought ?? 0;
    const words = thinks ? `Thinking · ${seconds(thought)}` : `Thought for ${thought < 0.1 ? "a moment" : seconds(thought)}`;
    if (this.#thinking.summary.textContent !== words) this.#thinking.summary.textContent = words;
    this.#thinking.box.classList.toggle("live", Boolean(thinks));
    this.#thinking.complete = !thinks;
    this.#drawThoughts();
  }

  // Only what can be seen is made.
  #drawThoughts() {
    const { box, stream, complete } = this.#thinking;
    if (box.open) stream.update(this.node.thinking, complete);
  }

  edit() {
    const { node, act } = this;
    this.#editing = true;
    const close = () => {
      this.#editing = false;
      box.remove();
      this.body.hidden = this.foot.hidden = false;
      this.drawnBusy = undefined;
      this.foot.querySelector('[aria-label="Edit"]')?.focus();
    };
    const user = node.role === "user";
    const box = editor(node.text, {
      save: user ? "enter" : "", saveLabel: user ? "Send" : "Keep as a new version",
      label: user ? "Edit the message; it becomes a new version" : "Edit the answer; it becomes a new version", onCancel: close,
      onSave: (text) => {
        if (!text.trim() && !node.files.length) return;
        close();
        act.saveEdit(node, text);
      },
    });
    this.body.hidden = this.foot.hidden = true;
    this.body.before(box);
  }
}
