// One answer being made: asks the server, puts what arrives into the node, and measures.
import { Failure, streamAnswer } from "./api.js";
import { requestFields } from "./settings.js";
import { above, messages, textOf } from "./tree.js";

export class Run {
  stopped = false;
  discarded = false;  // its conversation was deleted
  sent = 0;  // characters of a text's prompt
  from = 0;  // where they begin in the text
  #abort = new AbortController();
  #pieces = 0;

  // onChange: something was added to node; onEnd: it is complete, stopped or failed (node.error).
  // model: {id, length}, the length in tokens, 0 if it is not known.
  constructor(conversation, node, model, onChange, onEnd) {
    Object.assign(this, { conversation, node, model: model.id, length: model.length, onChange, onEnd });
    this.began = performance.now();
    this.firstAt = this.lastAt = this.thoughtUntil = 0;
  }

  stop() {
    this.stopped = true;
    this.#abort.abort();
  }

  async start() {
    const { conversation, node } = this;
    Object.assign(node, { text: "", thinking: "", finish: null, error: null, stats: null, model: this.model });
    const fields = { model: this.model, ...requestFields(conversation.settings, conversation.kind) };
    if (conversation.kind === "chat") fields.messages = messages(conversation, node.id);
    else fields.prompt = this.#fitted(above(conversation, node.id), fields.max_tokens);
    let usage = null;
    try {
      for await (const part of streamAnswer(conversation.kind, fields, this.#abort.signal)) {
        usage = part.usage ?? usage;
        if (part.finish) node.finish = part.finish;
        if (!part.text && !part.thinking) continue;
        this.lastAt = performance.now();
        if (!this.firstAt) this.firstAt = this.lastAt;
        if (part.text && node.thinking && !this.thoughtUntil) this.thoughtUntil = this.lastAt;
        this.#pieces += 1;
        node.text += part.text;
        node.thinking += part.thinking;
        node.stats = this.#measure(usage);
        this.onChange();
      }
    } catch (error) {
      const failure = error instanceof Failure ? error : new Failure("page", "This page met an error of its own.", String(error));
      if (failure.kind === "stopped") node.finish = "stopped";
      else node.error = { kind: failure.kind, title: failure.title, advice: failure.advice, wait: failure.wait };
      if (!(error instanceof Failure)) console.error(error);
    }
    if (this.firstAt) node.stats = this.#measure(usage);
    this.onEnd();
  }

  // A text longer than the model's context is continued from its end. How many characters a token has is known from the
  // last answer (three before there is one). What is sent begins where it began the last time, so that the server finds
  // it in its cache; when that no longer fits, half of it is dropped.
  #fitted(nodes, maxTokens) {
    const text = textOf(nodes);
    this.sent = text.length;
    if (!this.length) return text;
    const known = nodes.findLast((node) => node.stats?.prompt && node.stats.sent)?.stats;
    const fits = Math.max(this.length - maxTokens, this.length / 4) * (known ? (known.sent / known.prompt) * 0.9 : 3);
    this.from = known?.from ?? 0;
    if (text.length - this.from > fits) {
      this.from = Math.ceil(text.length - fits / 2);
      this.from += Math.max(text.slice(this.from).search(/\s\S/) + 1, 0);
    }
    this.sent = text.length - this.from;
    return text.slice(this.from);
  }

  // Until the server has said how many tokens there are, the pieces of the stream are counted.
  #measure(usage) {
    const details = usage?.completion_tokens_details ?? {};
    const tokens = usage?.completion_tokens ?? this.#pieces;
    const seconds = (this.lastAt - this.firstAt) / 1000;
    const stats = {
      tokens, exact: Boolean(usage), first: (this.firstAt - this.began) / 1000,
      rate: tokens >= 5 && seconds >= 0.02 ? (tokens - 1) / seconds : 0,  // of less it says nothing
    };
    if (this.node.thinking) stats.thought = ((this.thoughtUntil || this.lastAt) - this.firstAt) / 1000;
    if (this.from) stats.from = this.from;
    if (usage) {
      stats.sent = this.sent;
      stats.prompt = usage.prompt_tokens ?? 0;
      stats.cached = usage.prompt_cache_hit_tokens ?? usage.prompt_tokens_details?.cached_tokens ?? 0;
      stats.accepted = details.accepted_prediction_tokens ?? 0;
      stats.drafted = stats.accepted + (details.rejected_prediction_tokens ?? 0);
    }
    return stats;
  }
}
