// The field at the bottom: text, files, send and stop.
import { $, toast } from "./dom.js";
import { fileChip } from "./views.js";

const kMaxFile = 4 << 20;
// What stands in the empty field (with a keyboard, on a touch screen) and below it.
const kWords = {
  ask: { field: ["Ask, or drop a file", "Ask something"], hint: "Enter sends · Shift+Enter: new line" },
  begin: { field: ["Begin a text; the model goes on", "Begin a text"], hint: "Enter sends · Shift+Enter: new line" },
  goOn: { field: ["Add to the text, or just press Enter to let it go on", "Add to the text, or let it go on"],
          hint: "Enter: the model goes on · Shift+Enter: new line" },
};

// A file's text, or an Error in words.
async function readText(file) {
  if (file.size > kMaxFile) throw new Error(`${file.name} is larger than 4 MiB.`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const utf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  if (utf16) return new TextDecoder(bytes[0] === 0xff ? "utf-16le" : "utf-16be").decode(bytes);
  if (bytes.includes(0)) throw new Error(`${file.name} is not a text file.`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

export class Composer {
  files = [];
  #text = $("composer-text");
  #kind = "chat";
  #running = false;
  #begun = false;

  // act: send(text, files) -> whether it was taken, stop(), editLast()
  constructor(act) {
    this.act = act;
    const touch = matchMedia("(pointer: coarse)");
    this.touch = touch.matches;
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("stop").addEventListener("click", () => act.stop());
    this.#text.addEventListener("input", () => this.#fit());
    this.#text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !touch.matches) {
        event.preventDefault();
        this.#send();
      } else if (event.key === "ArrowUp" && this.#text.value === "" && !this.files.length) {
        if (act.editLast()) event.preventDefault();
      }
    });
    $("attach").addEventListener("click", () => $("attach-file").click());
    $("attach-file").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
    this.#text.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      this.add(files);
    });
    const main = $("main");
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    main.addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      main.classList.add("drop");
    });
    main.addEventListener("dragleave", (event) => !main.contains(event.relatedTarget) && main.classList.remove("drop"));
    main.addEventListener("drop", (event) => {
      main.classList.remove("drop");
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
  }

  async add(files) {
    for (const file of files) {
      try {
        const text = await readText(file);
        if (this.#kind === "text") this.set(this.#text.value + text);
        else this.files.push({ name: file.name, text });
      } catch (error) {
        toast(error.message);
      }
    }
    this.#drawFiles();
    this.focus();
  }

  #drawFiles() {
    const place = $("files");
    place.replaceChildren(...this.files.map((file) => fileChip(file, () => {
      this.files = this.files.filter((other) => other !== file);
      this.#drawFiles();
      this.focus();
    })));
    place.hidden = !this.files.length;
    this.#drawSend();
  }

  #send() {
    if (this.#running || $("send").disabled) return;
    if (!this.act.send(this.#text.value, this.files)) return;
    this.files = [];
    this.set("");
    this.#drawFiles();
  }

  get value() { return this.#text.value; }

  set(text) {
    this.#text.value = text;
    this.#fit();
  }

  focus() {
    if (!this.touch) this.#text.focus({ preventScroll: true });
  }

  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${Math.min(this.#text.scrollHeight, innerHeight * 0.4)}px`;
    this.#drawSend();
  }

  #drawSend() {
    const goesOn = this.#kind === "text" && this.#begun;
    const empty = !this.#text.value.trim() && !this.files.length;
    $("send").disabled = empty && !goesOn;
    const label = this.#kind === "text" ? (empty && goesOn ? "Continue" : "Write on") : "Send";
    $("send").setAttribute("aria-label", label);
    $("send").title = label;
  }

  // begun: there is a text or a conversation already.
  draw({ kind, running, begun }) {
    this.#kind = kind;
    this.#running = running;
    this.#begun = begun;
    const text = kind === "text";
    $("composer-label").textContent = text ? "Your part of the text" : "Message";
    const { field, hint } = kWords[text ? (begun ? "goOn" : "begin") : "ask"];
    this.#text.placeholder = field[this.touch ? 1 : 0];
    $("composer-hint").textContent = this.touch ? "" : running ? "Esc stops" : hint;
    const hadFocus = document.activeElement === $("send") || document.activeElement === $("stop");
    $("send").hidden = running;
    $("stop").hidden = !running;
    if (hadFocus) (running ? $("stop") : this.#text).focus({ preventScroll: true });
    this.#drawSend();
  }
}
