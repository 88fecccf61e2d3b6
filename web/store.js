// Conversations in the browser's IndexedDB: one store with whole conversations, one with what the list shows.
// Where the browser refuses storage (private windows), everything lives in memory, and `lasting` is false.
import { contents } from "./tree.js";

const kDatabase = "fathom";
const kWhole = "conversations";
const kIndex = "index";

const promised = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const completed = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });

const summary = (c) => ({ id: c.id, title: c.title, kind: c.kind, updated: c.updated });

export class Store {
  lasting = true;
  #database = null;
  #memory = new Map();
  #channel = "BroadcastChannel" in window ? new BroadcastChannel("fathom") : null;

  // onOther(id): another tab changed or removed a conversation.
  async open(onOther) {
    try {
      const request = indexedDB.open(kDatabase, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore(kWhole, { keyPath: "id" });
        request.result.createObjectStore(kIndex, { keyPath: "id" });
      };
      this.#database = await promised(request);
      this.#database.onversionchange = () => this.#database.close();
    } catch {
      this.lasting = false;
    }
    this.#channel?.addEventListener("message", (event) => onOther(event.data));
  }

  async list() {
    const all = this.#database
      ? await promised(this.#database.transaction(kIndex).objectStore(kIndex).getAll())
      : [...this.#memory.values()].map(summary);
    return all.sort((a, b) => b.updated - a.updated);
  }

  async get(id) {
    if (!this.#database) return this.#memory.get(id) ?? null;
    return (await promised(this.#database.transaction(kWhole).objectStore(kWhole).get(id))) ?? null;
  }

  async all() {
    if (!this.#database) return [...this.#memory.values()];
    return promised(this.#database.transaction(kWhole).objectStore(kWhole).getAll());
  }

  async put(conversation) {
    if (!this.#database) {
      this.#memory.set(conversation.id, conversation);
      return;
    }
    const transaction = this.#database.transaction([kWhole, kIndex], "readwrite");
    transaction.objectStore(kWhole).put(conversation);
    transaction.objectStore(kIndex).put(summary(conversation));
    await completed(transaction);
    this.#channel?.postMessage(conversation.id);
  }

  async remove(id) {
    this.#memory.delete(id);
    if (!this.#database) return;
    const transaction = this.#database.transaction([kWhole, kIndex], "readwrite");
    transaction.objectStore(kWhole).delete(id);
    transaction.objectStore(kIndex).delete(id);
    await completed(transaction);
    this.#channel?.postMessage(id);
  }

  // The ids of those that contain all words of the query.
  async search(query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = new Set();
    const look = (conversation) => {
      const text = contents(conversation).toLowerCase();
      if (words.every((word) => text.includes(word))) hits.add(conversation.id);
    };
    if (!this.#database) {
      this.#memory.forEach(look);
      return hits;
    }
    await new Promise((resolve, reject) => {
      const request = this.#database.transaction(kWhole).objectStore(kWhole).openCursor();
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        if (!request.result) return resolve();
        look(request.result.value);
        request.result.continue();
      };
    });
    return hits;
  }
}

// Small values: the last settings, the key, the model chosen.
export const remembered = {
  get(name, otherwise = null) {
    try {
      return JSON.parse(localStorage.getItem(`fathom.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`fathom.${name}`, JSON.stringify(value));
    } catch {
      // no storage: forgotten with the page
    }
  },
};
