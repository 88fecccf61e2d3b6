// Markdown with mathematics to safe HTML. Three libraries, each with one task: marked makes HTML of the text, DOMPurify
// lets only harmless elements of it through (model output is not to be trusted: no scripts, styles, forms, ids or
// pictures from elsewhere), KaTeX and highlight.js then fill the places left for formulas and code; what they make goes
// through DOMPurify too. The latter two are loaded when the first formula or code block appears.
import { copyButton, element, loadScript } from "./dom.js";

const { Lexer, Parser, Renderer } = window.marked;
const purify = window.DOMPurify;
// Debian's DOMPurify 2.4.1+dfsg+~2.4.0-2+deb12u1 tests a variable of another function where FORCE_BODY, which is not
// used here, was asked for: without this it throws at all HTML. Templates, of which that test was meant to be, are forbidden.
window.shadowNode ??= Object.freeze({ __depth: 0 });

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text) => text.replace(/[&<>"']/g, (c) => escapes[c]);
const span = (tex, display) => `<span class="math" data-display="${display ? 1 : 0}">${escaped(tex)}</span>`;

// ---- formulas in Markdown

const kBlockMath = [/^ {0,3}\$\$([\s\S]+?)\$\$[ \t]*(?:\n+|$)/, /^ {0,3}\\\[([\s\S]+?)\\\][ \t]*(?:\n+|$)/];
const kInlineMath = [
  [/^\$\$((?:\\[\s\S]|[^\\$])+?)\$\$/, true],
  [/^\\\[([\s\S]+?)\\\]/, true],
  [/^\\\(([\s\S]+?)\\\)/, false],
  // As in pandoc: no space inside next to the signs, no digit behind the second, so that prices are not formulas.
  [/^\$(?![\s$])((?:\\[\s\S]|[^\\$])*?(?:\\[\s\S]|[^\\$\s]))\$(?!\d)/, false],
];
// While a text still streams, a formula that has begun is held back as it is instead of being taken for a paragraph.
let streaming = false;

const blockMath = {
  name: "blockMath", level: "block",
  start: (src) => {
    const at = src.search(/^ {0,3}(?:\$\$|\\\[)/m);
    return at < 0 ? undefined : at;
  },
  tokenizer(src) {
    for (const rule of kBlockMath) {
      const match = rule.exec(src);
      if (match) return { type: "blockMath", raw: match[0], tex: match[1].trim(), open: false };
    }
    const begun = streaming && /^ {0,3}(\$\$|\\\[)/.exec(src);
    if (begun && !src.includes(begun[1] === "$$" ? "$$" : "\\]", begun[0].length))
      return { type: "blockMath", raw: src, tex: src.slice(begun[0].length), open: true };
  },
  renderer: (token) =>
    token.open ? `<pre class="math-open">${escaped(token.tex.trim())}</pre>` : `<p class="formula">${span(token.tex, true)}</p>`,
};

const inlineMath = {
  name: "inlineMath", level: "inline",
  start: (src) => {
    const match = /(^|[^\w\\$])\$|\\[([]/.exec(src);
    return match ? match.index + (match[1]?.length ?? 0) : undefined;
  },
  tokenizer(src) {
    for (const [rule, display] of kInlineMath) {
      const match = rule.exec(src);
      if (match && match[1].trim()) return { type: "inlineMath", raw: match[0], tex: match[1].trim(), display };
    }
  },
  renderer: (token) => span(token.tex, token.display),
};

const kPicture = /^data:image\/(?:png|jpeg|gif|webp);/i;  // with its bytes: not fetched from anywhere

class PageRenderer extends Renderer {
  // A picture would be fetched from elsewhere: it is a link to follow on purpose.
  image(href, _title, text) {
    if (kPicture.test(href ?? "")) return `<img src="${escaped(href)}" alt="${escaped(text ?? "")}">`;
    return `<a href="${escaped(href ?? "")}">Picture: ${escaped(text || href || "")}</a>`;
  }
  checkbox(checked) {
    return `<span class="check">${checked ? "☑" : "☐"}</span> `;
  }
  code(text, info) {
    const language = /^[\w+#.-]*/.exec(info ?? "")[0];
    return `<pre data-language="${escaped(language)}"><code>${escaped(text)}</code></pre>`;
  }
}

window.marked.marked.use({ extensions: [blockMath, inlineMath] });
const kOptions = { ...window.marked.marked.defaults, gfm: true, headerIds: false, mangle: false, renderer: new PageRenderer() };

// ---- what is let through

const kSafe = {
  USE_PROFILES: { html: true },
  FORBID_TAGS: ["style", "form", "input", "button", "textarea", "select", "option", "label", "fieldset", "dialog", "audio",
                "video", "source", "track", "picture", "map", "area", "font", "marquee", "template", "slot", "nav", "menu"],
  FORBID_ATTR: ["style", "id", "name", "class", "srcset", "for", "tabindex", "autofocus", "contenteditable", "draggable",
                "popover", "background", "is", "slot", "role", "color", "face", "bgcolor"],
  ALLOWED_URI_REGEXP: /^(?:(?:https?|mailto):|[^a-z]|[a-z+.-]+(?:[^a-z+.:-]|$))/i,  // asked of most attributes, so: no other scheme
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const kSafeClasses = new Set(["math", "formula", "math-open", "check"]);
const kSafeFormula = { ADD_TAGS: ["semantics", "annotation"], USE_PROFILES: { html: true, mathMl: true, svg: true },
                       FORBID_TAGS: ["a", "img", "style", "form", "image"], RETURN_DOM_FRAGMENT: true };
const kSafeCode = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };

let classes = null;  // the classes let through, where not all are
purify.addHook("uponSanitizeAttribute", (_node, data) => {
  if (classes && data.attrName === "class" && classes.has(data.attrValue)) data.forceKeepAttr = true;
});
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A" && !/^(?:https?:\/\/|mailto:)/i.test(node.getAttribute("href") ?? "")) {
    node.removeAttribute("href");  // nothing on this server is a model's to link to
  } else if (node.nodeName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
  if (node.nodeName === "IMG" && !kPicture.test(node.getAttribute("src") ?? "")) node.removeAttribute("src");
});

function sanitize(html, rules) {
  classes = rules === kSafe ? kSafeClasses : null;
  return purify.sanitize(html, rules);
}

// ---- Markdown to blocks

// The blocks of a text, with `links` (definitions seen so far) shared among calls.
export function lex(text, links, isStreaming) {
  streaming = isStreaming;
  const lexer = new Lexer(kOptions);
  Object.assign(lexer.tokens.links, links);
  const tokens = lexer.lex(text);
  Object.assign(links, tokens.links);
  streaming = false;
  return tokens;
}

// As the lexer counts: it replaces leading tabs before it cuts the text into tokens.
export const normalised = (text) => text.replace(/^( *)(\t+)/gm, (_, spaces, tabs) => spaces + "    ".repeat(tabs.length));

// A fragment with the elements of some tokens; code and formulas are filled in where their library is there, and later
// otherwise.
export function render(tokens) {
  const fragment = sanitize(Parser.parse(tokens, kOptions), kSafe);
  for (const math of fragment.querySelectorAll("span.math")) fillFormula(math);
  for (const pre of fragment.querySelectorAll("pre:not(.math-open)")) {
    const code = pre.querySelector("code");
    if (!code) continue;
    const block = new CodeBlock(pre.dataset.language ?? "");
    block.update(code.textContent.replace(/\n$/, ""));
    pre.replaceWith(block.element);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = element("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

// ---- formulas

const kFormulasKept = 400;
const formulas = new Map();  // "1tex" -> fragment

function fillFormula(place) {
  const tex = place.textContent;
  const display = place.dataset.display === "1";
  if (!window.katex) {
    loadKatex().then(() => place.isConnected && fillFormula(place), () => {});
    return;
  }
  const known = `${display ? 1 : 0}${tex}`;
  let made = formulas.get(known);
  if (!made) {
    // trust is off: no links, pictures or attributes of the text's choice; sizes are bounded.
    const html = window.katex.renderToString(tex, { displayMode: display, throwOnError: false, trust: false, strict: "ignore",
                                                    maxSize: 20, maxExpand: 500 });
    made = sanitize(html, kSafeFormula);
    if (formulas.size >= kFormulasKept) formulas.delete(formulas.keys().next().value);
    formulas.set(known, made);
  }
  place.replaceChildren(made.cloneNode(true));
}

let katexStyle = null;
function loadKatex() {
  katexStyle ??= document.head.appendChild(element("link", { rel: "stylesheet", href: "lib/katex.css" }));
  return loadScript("lib/katex.js");
}

// ---- code

const kNames = {
  make: "makefile", mk: "makefile", sh: "bash", shell: "bash", console: "bash", zsh: "bash", py: "python", js: "javascript",
  ts: "typescript", tsx: "typescript", "c++": "cpp", cc: "cpp", h: "cpp", hpp: "cpp", cuda: "cpp", "c#": "cs", csharp: "cs",
  golang: "go", rs: "rust", yml: "yaml", html: "xml", svg: "xml", md: "markdown", rb: "ruby", kt: "kotlin", latex: "tex",
  jsonc: "json", asm: "x86asm", nasm: "x86asm",
};
const kPlain = new Set(["", "text", "txt", "plain", "plaintext", "none", "output"]);
const kLongestLine = 2000;  // beyond, a line is left without colours

// A block of code that may grow: lines that are complete are coloured once, with the state in which the line before
// ended; only the last line is made again.
export class CodeBlock {
  #text = "";
  #offset = 0;    // where the last line begins; the lines before it are on the page
  #state = null;  // the highlighter's, behind those
  #tail = null;   // the element of the last line
  #waiting = false;

  constructor(info) {
    this.language = /^[\w+#.-]{0,30}(?=\s|$)/.exec((info ?? "").trim())?.[0] ?? "";
    this.code = element("code");
    this.element = element("div", { class: "code" }, [
      element("div", { class: "code-head" }, [
        element("span", {}, this.language || "code"), copyButton("Copy the code", () => this.#text),
      ]),
      element("pre", { tabindex: "0", "aria-label": `Code, ${this.language || "plain text"}` }, this.code),
    ]);
  }

  update(text) {
    this.#text = text;
    this.#draw();
    if (window.hljs || this.#waiting || kPlain.has(this.language.toLowerCase())) return;
    this.#waiting = true;
    loadScript("lib/highlight.js").then(() => this.#again(), () => {});
  }

  get #grammar() {
    const name = this.language.toLowerCase();
    if (kPlain.has(name) || !window.hljs) return null;
    const known = kNames[name] ?? name;
    return window.hljs.getLanguage(known) ? known : null;
  }

  #again() {
    this.#offset = 0;
    this.#state = this.#tail = null;
    this.code.replaceChildren();
    this.#draw();
  }

  #line(line, keepState) {
    const grammar = this.#grammar;
    if (!grammar || line.length > kLongestLine) return document.createTextNode(line);
    const result = window.hljs.highlight(grammar, line, true, this.#state ?? undefined);
    if (keepState) this.#state = result.top;
    return sanitize(result.value, kSafeCode);
  }

  #draw() {
    this.#tail?.remove();
    const batch = document.createDocumentFragment();
    for (let end; (end = this.#text.indexOf("\n", this.#offset)) >= 0; this.#offset = end + 1) {
      batch.append(this.#line(this.#text.slice(this.#offset, end + 1), true));
    }
    this.#tail = element("span", {}, this.#line(this.#text.slice(this.#offset), false));
    batch.append(this.#tail);
    this.code.append(batch);
  }
}
