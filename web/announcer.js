// Reads an answer to screen readers as its sentences are finished, a few at a time, instead of every token.
const kEvery = 1200;  // ms
const kSentence = /[\s\S]*(?:[.!?:…]["'”’)*_]*\s|[。！？]|\n)/;

export class Announcer {
  #place;
  #said = 0;
  #timer = 0;
  #text = "";

  constructor(place) {
    this.#place = place;
  }

  say(words) {
    const line = document.createElement("p");
    line.textContent = words;
    this.#place.append(line);
    while (this.#place.childElementCount > 4) this.#place.firstChild.remove();
  }

  begin() {
    clearTimeout(this.#timer);
    this.#said = this.#timer = 0;
    this.#text = "";
  }

  // The whole text so far.
  update(text) {
    this.#text = text;
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      const done = kSentence.exec(this.#text.slice(this.#said));
      if (done) this.#speak(done[0]);
    }, kEvery);
  }

  end(text, closing) {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#text = text;
    this.#speak(text.slice(this.#said));
    if (closing) this.say(closing);
  }

  #speak(part) {
    this.#said += part.length;
    const words = part.replace(/^(?:```|~~~).*$/gm, " code: ").replace(/[*_`#>|]+/g, " ").replace(/\s+/g, " ").trim();
    if (words) this.say(words);
  }
}
