// The list of conversations: by day, with search, renaming, removal, export and import.
import { $, button, element } from "./dom.js";
import { dayName } from "./words.js";

export class Sidebar {
  #items = [];
  #hits = null;   // ids that the search found
  #query = "";
  #current = "";
  #renaming = "";

  // act: open(id), rename(id, title), remove(id), save(id), search(query) -> ids
  constructor(act) {
    this.act = act;
    this.place = $("conversations");
    const search = $("search");
    let timer = 0;
    search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#search(search.value), 150);
    });
    search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.#focus(0, event);
      else if (event.key === "Enter") this.place.querySelector(".open")?.click();
      else if (event.key === "Escape" && search.value) {
        event.stopPropagation();
        search.value = "";
        this.#search("");
      }
    });
    this.place.addEventListener("keydown", (event) => {
      const rows = [...this.place.querySelectorAll(".open")];
      const at = rows.indexOf(event.target);
      if (at < 0) return;
      if (event.key === "ArrowDown") this.#focus(at + 1, event);
      else if (event.key === "ArrowUp") at === 0 ? (event.preventDefault(), search.focus()) : this.#focus(at - 1, event);
      else if (event.key === "F2") this.#rename(rows[at].dataset.id);
      else if (event.key === "Delete") this.act.remove(rows[at].dataset.id);
    });
  }

  #focus(at, event) {
    event.preventDefault();
    this.place.querySelectorAll(".open")[at]?.focus();
  }

  async #search(query) {
    this.#query = query.trim();
    const hits = this.#query ? await this.act.search(this.#query) : null;
    if (query.trim() !== this.#query) return;
    this.#hits = hits;
    this.draw();
  }

  set(items, current) {
    this.#items = items;
    this.#current = current;
    this.draw();
  }

  draw() {
    if (this.#renaming) return;
    const focused = this.place.contains(document.activeElement) ? document.activeElement.closest("[data-row]")?.dataset.row : "";
    const shown = this.#hits ? this.#items.filter((item) => this.#hits.has(item.id)) : this.#items;
    const rows = [];
    let day = "";
    for (const item of shown) {
      const name = dayName(item.updated);
      if (name !== day) rows.push(element("h2", { role: "presentation" }, (day = name)));
      rows.push(this.#row(item));
    }
    if (!shown.length) rows.push(element("p", { class: "none" }, this.#hits ? "Nothing found." : "No conversations yet."));
    this.place.replaceChildren(...rows);
    if (focused) this.place.querySelector(`[data-row="${focused}"] .open`)?.focus();
  }

  #row(item) {
    const current = item.id === this.#current;
    const open = element("button", {
      type: "button", class: "open", "data-id": item.id, "aria-current": current ? "true" : undefined, title: item.title,
    }, item.title || "Untitled");
    open.addEventListener("click", () => this.act.open(item.id));
    return element("div", { class: `row-item${current ? " current" : ""}`, role: "listitem", "data-row": item.id }, [
      open,
      element("span", { class: "row-tools" }, [
        button("Rename", "edit", () => this.#rename(item.id)), button("Export", "save", () => this.act.save(item.id)),
        button("Delete", "trash", () => this.act.remove(item.id)),
      ]),
    ]);
  }

  #rename(id) {
    const item = this.#items.find((i) => i.id === id);
    const row = this.place.querySelector(`[data-row="${id}"]`);
    if (!item || !row) return;
    this.#renaming = id;
    const input = element("input", { type: "text", value: item.title, "aria-label": "New name", maxlength: 200 });
    const end = (keep) => {
      if (!this.#renaming) return;
      this.#renaming = "";
      if (keep && input.value.trim() && input.value.trim() !== item.title) this.act.rename(id, input.value.trim());
      this.draw();
      this.place.querySelector(`[data-row="${id}"] .open`)?.focus();
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") end(true);
      else if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
      }
    });
    input.addEventListener("blur", () => end(true));
    row.replaceChildren(input);
    input.select();
  }
}
