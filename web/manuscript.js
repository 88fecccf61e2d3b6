// Completion mode: one flowing text, written in turns by the reader and the model. Each turn is a passage; the one that
// is chosen (the last, unless another was clicked) has its tools below the text.
import { button, copyButton, element } from "./dom.js";
import { joint, path, textOf } from "./tree.js";
import { branchSwitch, editor, statLine, trouble } from "./views.js";

export class Manuscript {
  #passages = new Map();  // node id -> {span, lead, drawn}
  #chosen = null;
  #editing = false;

  constructor(conversation, act) {
    Object.assign(this, { conversation, act });
    this.text = element("div", { class: "text" });
    this.tools = element("div", { class: "tools" });
    this.extra = element("div", { class: "extra" });
    const legend = element("p", { class: "legend" }, [
      element("span", { class: "by user" }, "you"), element("span", { class: "by model" }, "the model"),
    ]);
    this.element = element("article", { class: "manuscript", "aria-label": "Text" }, [legend, this.text, this.extra, this.tools]);
    this.text.addEventListener("click", (event) => this.#choose(event.target.closest(".passage")));
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.target.matches(".passage")) return;
      this.#choose(event.target);
      this.tools.querySelector("button:not(:disabled)")?.focus();
    });
  }

  #choose(passage) {
    if (!passage || this.#editing || String(getSelection())) return;
    this.#chosen = passage.dataset.node === this.#chosen ? null : passage.dataset.node;
    this.draw(this.run, this.busy);
  }

  draw(run, busy) {
    if (this.#editing) return;
    Object.assign(this, { run, busy });
    const nodes = path(this.conversation);
    const seen = new Set(nodes.map((node) => node.id));
    for (const [id, passage] of this.#passages) {
      if (seen.has(id)) continue;
      passage.span.remove();
      this.#passages.delete(id);
    }
    if (!seen.has(this.#chosen)) this.#chosen = null;
    let before = "";
    for (const node of nodes) {
      this.#drawPassage(node, node.role === "user" ? joint(before, node.text) : "", node === run?.node);
      before = node.text || before;
    }
    const node = this.conversation.nodes[this.#chosen] ?? nodes.at(-1);
    for (const [id, { span }] of this.#passages) span.classList.toggle("chosen", id === this.#chosen);
    this.element.setAttribute("aria-busy", String(Boolean(run)));
    if (run && this.shown === node && this.drawnBusy === busy) {
      this.tools.querySelector(".stats")?.replaceWith(this.#stats(node));
      return;
    }
    Object.assign(this, { shown: node, drawnBusy: busy });
    const failed = nodes.find((n) => n.error);
    this.extra.replaceChildren(failed ? trouble(failed, this.act) : "");
    this.#drawTools(node, run, busy);
  }

  #drawPassage(node, lead, running) {
    let passage = this.#passages.get(node.id);
    if (!passage) {
      const by = node.role === "user" ? "user" : "model";
      const span = element("span", {
        class: `passage ${by}`, "data-node": node.id, tabindex: "0", role: "group",
        "aria-label": by === "user" ? "You wrote" : "The model wrote",
      });
      passage = { span, ink: document.createTextNode("") };
      span.append(passage.ink);
      this.text.append(span);
      this.#passages.set(node.id, passage);
    }
    const text = lead + node.text;
    const has = passage.ink.data;
    if (text.startsWith(has)) {
      if (text.length > has.length) passage.ink.appendData(text.slice(has.length));
    } else {
      passage.ink.data = text;
    }
    passage.span.classList.toggle("running", running);
  }

  #drawTools(node, run, busy) {
    const { act } = this;
    if (!node) return this.tools.replaceChildren();
    const parts = [branchSwitch(this.conversation, node, act, busy)];
    if (!run) {
      if (node.role === "assistant") {
        parts.push(button("Write this passage again", "again", () => act.regenerate(node), { disabled: busy }));
      }
      parts.push(button("Edit this passage", "edit", () => this.#edit(node), { disabled: busy }),
                 copyButton("Copy the whole text", () => textOf(path(this.conversation))));
    }
    if (node.role === "assistant") parts.push(this.#stats(node));
    this.tools.replaceChildren(...parts.filter(Boolean));
  }

  // That a passage ends at its length limit is how it is meant here.
  #stats(node) {
    return statLine(node, node.finish === "length" ? null : node.finish);
  }

  #edit(node) {
    const { span } = this.#passages.get(node.id);
    this.#editing = true;
    const close = () => {
      this.#editing = false;
      box.remove();
      span.hidden = this.tools.hidden = false;
      this.shown = null;
      this.draw(this.run, this.busy);
    };
    const box = editor(node.text, {
      save: "", saveLabel: "Keep as a new version", label: "Edit the passage; it becomes a new version", onCancel: close,
      onSave: (text) => {
        if (!text.trim()) return;
        close();
        this.act.saveEdit(node, text);
      },
    });
    span.hidden = this.tools.hidden = true;
    span.before(box);
  }
}
