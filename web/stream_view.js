// The elements of a Markdown text that may still grow. Blocks that cannot change any more are made once and left alone;
// each update makes only the last block again and changes in the page only what differs, so the cost of an update does
// not grow with the answer and nothing flickers.
//
// Fenced code that begins at the margin is cut out before the Markdown parser sees it: it is exact to the byte (the
// parser replaces tabs), and its lines are coloured once.
import { CodeBlock, lex, normalised, render } from "./markdown.js";

const kFence = /^(`{3,}|~{3,})([^\n`]*)\n/gm;
// A last line that may become a fence: not shown yet.
const kMaybeFence = /(^|\n)[ \t]*(?:`{1,}|~{3,})[^\n`]*$/;
const kInnerFence = /^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(?:`{3}|~{3})/m;

// An unfinished text as it will look when finished: marks that are open are closed, so that **bold does not jump.
function closed(text) {
  const block = text.lastIndexOf("\n\n") + 1;
  let tail = text.slice(block).trimEnd();
  if (kInnerFence.test(text)) return text;
  const plain = tail.replace(/`[^`\n]*`/g, "");
  if (plain.includes("`")) return text.slice(0, block) + (tail.endsWith("`") ? tail.replace(/`+$/, "") : `${tail}\``);
  tail = tail.replace(/!?\[([^\][\n]*)\]\([^()\s]*$/, "$1");  // [words](http://half
  tail = tail.replace(/(^|\s)[*_~]{1,3}$/, "$1");             // nothing behind the mark yet
  tail = tail.replace(/(\*\*[^*\n]+)\*$/, "$1");              // the first of two closing stars
  if ((plain.match(/\*\*/g) ?? []).length % 2 && tail.includes("**")) tail = `${tail.trimEnd()}**`;
  return text.slice(0, block) + tail;
}

// Whether one can become the other by changes inside. A code block belongs to the object that made it.
const alike = (a, b) =>
  a.nodeType === Node.ELEMENT_NODE && a.nodeName === b.nodeName && !a.classList.contains("code") &&
  a.attributes.length === b.attributes.length && [...b.attributes].every((x) => a.getAttribute(x.name) === x.value);

// Changes the children of `place` into those of `made`, touching only what differs.
function morph(place, made) {
  let old = place.firstChild;
  for (let fresh = made.firstChild; fresh; ) {
    const next = fresh.nextSibling;
    if (!old) {
      place.append(fresh);
    } else {
      const after = old.nextSibling;
      if (!old.isEqualNode(fresh)) {
        if (old.nodeType === Node.TEXT_NODE && fresh.nodeType === Node.TEXT_NODE) old.data = fresh.data;
        else if (alike(old, fresh)) morph(old, fresh);
        else old.replaceWith(fresh);
      }
      old = after;
    }
    fresh = next;
  }
  while (old) {
    const after = old.nextSibling;
    old.remove();
    old = after;
  }
}

export class StreamView {
  #text = "";
  #at = 0;          // where the block begins that is not finished
  #links = {};
  #fence = null;    // the open code block: {mark, view, begin}
  #tail;            // holds the elements of the last block
  #finished = false;

  constructor(place) {
    this.place = place;
    this.#tail = document.createElement("div");
    this.#tail.className = "tail";
    place.replaceChildren(this.#tail);
  }

  // The whole text so far; `final` when it is complete.
  update(text, final) {
    text = text.replace(/\r\n?/g, "\n");
    if (this.#finished || !text.startsWith(this.#text)) this.#restart();
    this.#text = text;
    this.#finished = final;
    while (this.#fence ? this.#code(final) : this.#prose(final)) continue;
  }

  #restart() {
    this.#at = 0;
    this.#links = {};
    this.#fence = null;
    this.#tail.replaceChildren();
    this.place.replaceChildren(this.#tail);
  }

  // Both: whether there is more behind what they have taken.

  #code(final) {
    const { mark, view, begin } = this.#fence;
    const closing = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}[ \\t]*(\\n|$)`, "gm");
    closing.lastIndex = Math.max(this.#fence.seen, begin);
    let match = closing.exec(this.#text);
    if (match && !match[1] && !final) match = null;  // its line may go on
    let end = match ? match.index : this.#text.length;
    if (!match) {
      const lastLine = this.#text.lastIndexOf("\n") + 1;
      this.#fence.seen = Math.max(begin, lastLine);
      if (!final && /^ {0,3}[`~]+[ \t]*$/.test(this.#text.slice(this.#fence.seen))) end = this.#fence.seen;
    }
    view.update(this.#text.slice(begin, end).replace(/\n$/, ""));
    if (!match) return false;
    this.#fence = null;
    this.#at = match.index + match[0].length;
    return true;
  }

  #prose(final) {
    kFence.lastIndex = this.#at;
    const fence = kFence.exec(this.#text);
    const end = fence ? fence.index : this.#text.length;
    const whole = Boolean(fence) || final;
    let text = this.#text.slice(this.#at, end);
    if (!whole) text = text.replace(kMaybeFence, "$1");

    // The parser's lengths are those of the text with its leading tabs replaced: what is done is taken off that text,
    // and found again in the source by the lines.
    const source = text;
    text = normalised(text);
    const tokens = lex(whole ? text : closed(text), this.#links, !whole);
    let keep = tokens.length;
    if (!whole) {
      keep = tokens.findLastIndex((token) => token.type !== "space");
      if (keep < 0) keep = 0;
    }
    const done = tokens.slice(0, keep);
    if (done.length) {
      this.#tail.before(render(done));
      const lines = done.reduce((n, token) => n + token.raw.split("\n").length - 1, 0);
      let at = 0;
      for (let i = 0; i < lines; ++i) at = source.indexOf("\n", at) + 1;
      this.#at += whole ? source.length : at;
    }
    if (whole) {
      this.#at = end;
      this.#tail.replaceChildren();
    } else {
      morph(this.#tail, render(tokens.slice(keep)));
    }
    if (!fence) return false;
    const view = new CodeBlock(fence[2]);
    this.#tail.before(view.element);
    this.#at = fence.index + fence[0].length;
    this.#fence = { mark: fence[1], view, begin: this.#at, seen: this.#at };
    return true;
  }
}
