// The settings of a conversation: their fields, what a request is sent of them, and the panel that shows them.
// An empty field is not sent: the server's (or the model's own) default holds.
import { element, icon } from "./dom.js";

const kFields = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.1, hint: "0: always the likeliest token" },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: 0.05, hint: "likeliest tokens up to this sum" },
  { name: "top_k", label: "Top k", min: 0, max: 1000, step: 1, hint: "only so many tokens; 0: all" },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01, hint: "at least this share of the likeliest" },
  { name: "max_tokens", label: "Max tokens", min: 1, max: 1048576, step: 1, hint: "length of an answer" },
  { name: "seed", label: "Seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, hint: "same seed, same answer" },
  { name: "frequency_penalty", label: "Frequency", group: "penalty", min: -2, max: 2, step: 0.1, hint: "by how often it was used" },
  { name: "presence_penalty", label: "Presence", group: "penalty", min: -2, max: 2, step: 0.1, hint: "if it was used at all" },
  { name: "repetition_penalty", label: "Repetition", group: "penalty", min: 0.01, max: 2, step: 0.05, hint: "divides; 1: none" },
];
const kTextMaxTokens = 200;  // of a continuation: the API's own default of 16 is half a sentence

const valid = (field, value) =>
  typeof value === "number" && value >= field.min && value <= field.max && (field.step < 1 || Number.isInteger(value));

// Of what came from a file or an older page: only what has its type and range.
export function cleanSettings(raw) {
  const clean = {};
  if (!raw || typeof raw !== "object") return clean;
  for (const field of kFields) if (valid(field, raw[field.name])) clean[field.name] = raw[field.name];
  if (typeof raw.system === "string" && raw.system) clean.system = raw.system;
  if (typeof raw.stop === "string" && raw.stop) clean.stop = raw.stop;
  if (["on", "off"].includes(raw.thinking)) clean.thinking = raw.thinking;
  return clean;
}

// \n and \t in a stop string mean what they say.
const unescaped = (line) => line.replace(/\\([nt\\])/g, (_, c) => ({ n: "\n", t: "\t", "\\": "\\" })[c]);

// The fields of a request.
export function requestFields(settings, kind) {
  const fields = {};
  for (const { name } of kFields) if (settings[name] !== undefined) fields[name] = settings[name];
  const stop = (settings.stop ?? "").split("\n").filter((line) => line !== "").map(unescaped);
  if (stop.length) fields.stop = stop.slice(0, 16);
  if (kind === "text") fields.max_tokens ??= kTextMaxTokens;
  else if (settings.thinking) fields.chat_template_kwargs = { thinking: settings.thinking === "on" };
  return fields;
}

export const countSet = (settings) => Object.values(settings).filter((v) => v !== undefined && v !== "").length;

// Fills `panel` for a conversation; onChange after each change, onKind when the other mode is chosen.
export function showPanel(panel, conversation, { onChange, onKind, onClose, canChat, canSwitch, defaults = {} }) {
  const { settings, kind } = conversation;
  const set = (name, value) => {
    if (value === undefined || value === "") delete settings[name];
    else settings[name] = value;
    onChange();
  };

  const numbers = kFields.map((field) => {
    const wrong = element("span", { class: "wrong", id: `wrong-${field.name}`, role: "alert", hidden: true });
    const known = kind === "text" && field.name === "max_tokens" ? kTextMaxTokens : defaults[field.name];
    const otherwise = typeof known === "number" ? String(Number(known.toPrecision(4))) : "default";
    const input = element("input", {
      type: "number", id: `set-${field.name}`, min: field.min, max: field.max, step: field.step, inputmode: "decimal",
      placeholder: otherwise, value: settings[field.name] ?? "",
      "aria-label": field.group && `${field.label} ${field.group}`, "aria-describedby": `hint-${field.name} wrong-${field.name}`,
    });
    input.addEventListener("input", () => {
      const value = input.value === "" ? undefined : Number(input.value);
      const good = (value === undefined && !input.validity.badInput) || valid(field, value);
      wrong.hidden = good;
      wrong.textContent = good ? "" : `From ${field.min} to ${field.max}${field.step < 1 ? "" : ", whole"}.`;
      input.setAttribute("aria-invalid", String(!good));
      if (good) set(field.name, value);
    });
    return element("div", { class: "field" }, [
      element("label", { for: input.id }, field.label), input,
      element("small", { id: `hint-${field.name}` }, field.hint), wrong,
    ]);
  });

  const area = (name, label, hint, rows, placeholder) => {
    const input = element("textarea", { id: `set-${name}`, rows, placeholder, spellcheck: name === "system" });
    input.value = settings[name] ?? "";
    input.addEventListener("input", () => set(name, input.value));
    return element("div", { class: "field tall" }, [
      element("label", { for: input.id }, label), input, hint ? element("small", {}, hint) : "",
    ]);
  };

  const choice = (name, label, options, value, onPick) =>
    element("fieldset", { class: "choice" }, [
      element("legend", {}, label),
      ...options.map(([key, words, disabled]) => {
        const input = element("input", { type: "radio", name, value: key, checked: value === key, disabled });
        input.addEventListener("change", () => onPick(key));
        return element("label", {}, [input, element("span", {}, words)]);
      }),
    ]);

  const close = element("button", { class: "icon", type: "button", "aria-label": "Close the settings" }, icon("close"));
  close.addEventListener("click", onClose);
  const reset = element("button", { type: "button", class: "quiet" }, "Back to the defaults");
  const self = { onChange, onKind, onClose, canChat, canSwitch, defaults };
  reset.addEventListener("click", () => {
    for (const name of Object.keys(settings)) delete settings[name];
    onChange();
    showPanel(panel, conversation, self);
    panel.querySelector("button").focus();
  });

  panel.replaceChildren(
    element("div", { class: "panel-head" }, [element("h2", {}, "Settings"), close]),
    element("div", { class: "panel-body" }, [
      choice("kind", "Mode", [["chat", "Chat", !canChat || !canSwitch], ["text", "Completion", !canSwitch]], kind, onKind),
      !canChat ? element("small", {}, "This model has no chat template: it continues text.")
        : !canSwitch ? element("small", {}, "The mode is fixed once a conversation has begun.") : "",
      kind === "chat" ? area("system", "System prompt", "", 4, "What the model is told before everything else") : "",
      kind === "chat" ? choice("thinking", "Thinking", [["", "Default"], ["on", "On"], ["off", "Off"]], settings.thinking ?? "",
                               (key) => set("thinking", key)) : "",
      element("h3", {}, "Sampling"),
      element("div", { class: "fields" }, numbers.filter((_, i) => !kFields[i].group)),
      element("h3", {}, "Penalties"),
      element("div", { class: "fields" }, numbers.filter((_, i) => kFields[i].group)),
      area("stop", "Stop strings", "One a line, at most 16; \\n is a line break.", 2, ""),
      element("div", { class: "row" }, reset),
    ]),
  );
}
