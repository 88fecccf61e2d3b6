// What an empty conversation shows.
import { element } from "./dom.js";
import { count } from "./words.js";

const kOpenings = [
  "Once upon a time there was a little fox who lived at the edge of a great forest.",
  "The old clock struck twelve, and somebody knocked at the door.",
  "\"I have never seen the sea,\" said the girl, and she",
];

// start(text): sends it. other(): goes to the other mode, where there is one.
export function welcome(kind, model, start, other) {
  const text = kind === "text";
  const facts = model ? [model.id, model.length ? `reads ${count(model.length)} tokens` : ""].filter(Boolean).join(" · ") : "";
  const box = element("section", { class: "welcome" }, [
    element("img", { src: "icon.svg", alt: "", width: 48, height: 48 }),
    element("h2", {}, text ? "Begin a text" : "What would you like to know?"),
    element("p", {}, text
      ? "This is completion mode: you write a beginning, the model goes on from your last word, and you may take turns. " +
        "It does not answer questions."
      : "Answers are made on this server and kept in this browser only."),
    facts ? element("p", { class: "facts" }, facts) : "",
  ]);
  if (text) {
    box.append(element("div", { class: "openings" }, kOpenings.map((opening) => {
      const made = element("button", { type: "button" }, opening);
      made.addEventListener("click", () => start(opening));
      return made;
    })));
  }
  if (other) {
    const made = element("button", { type: "button", class: "quiet" }, text ? "Chat instead" : "Let it continue a text instead");
    made.addEventListener("click", other);
    box.append(made);
  }
  return box;
}
