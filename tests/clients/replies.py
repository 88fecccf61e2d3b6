"""What an answer says, whichever API gave it, streamed or whole: read_reply("chat", answer) -> Reply. Standard library only."""
import json


class Choice:
    def __init__(self):
        self.text = self.reasoning = ""
        self.calls = []  # [id, name, arguments]
        self.finish = None

    def said(self):
        """All of it that is the same each time."""
        return [self.text, self.reasoning, [call[1:] for call in self.calls], self.finish]


class Reply:
    def __init__(self, count=1):
        self.choices = [Choice() for _ in range(count)]
        self.prompt_tokens = self.completion_tokens = None
        self.error = None
        self.complete = True  # a stream had its end

    def said(self):
        return [choice.said() for choice in self.choices]

    def count_usage(self, usage):
        self.prompt_tokens, self.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]


def read_reply(api, answer):
    """answer: an http_stream.Answer with status 200, `api` one of completions, chat, messages, responses."""
    streamed = "text/event-stream" in answer.headers.get("content-type", "")
    events = [event for _, event in answer.events] if streamed else [answer.json()]
    error = next((e["error"] for e in events if e.get("error")), None)
    if error:
        reply = Reply()
        reply.error = error
        return reply
    if api in ("completions", "chat"):
        reply = _openai_stream(events) if streamed else _openai_whole(events[0])
        reply.complete = answer.done or not streamed
        return reply
    if api == "messages":
        return _messages_stream(events) if streamed else _message(events[0])
    return _responses_stream(events) if streamed else _response(events[0])


def _openai_whole(body):
    reply = Reply(len(body["choices"]))
    for choice in body["choices"]:
        mine = reply.choices[choice["index"]]
        message = choice.get("message") or {"content": choice["text"]}
        mine.text, mine.reasoning = message["content"] or "", message.get("reasoning_content") or ""
        mine.calls = [[c["id"], c["function"]["name"], c["function"]["arguments"]] for c in message.get("tool_calls") or []]
        mine.finish = choice["finish_reason"]
    reply.count_usage(body["usage"])
    return reply


def _openai_stream(events):
    reply = Reply(0)
    for event in events:
        if event.get("usage"):
            reply.count_usage(event["usage"])
        for choice in event["choices"]:
            while len(reply.choices) <= choice["index"]:
                reply.choices.append(Choice())
            mine = reply.choices[choice["index"]]
            delta = choice.get("delta") or {"content": choice.get("text")}
            mine.text += delta.get("content") or ""
            mine.reasoning += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or []:
                if call["index"] == len(mine.calls):
                    mine.calls.append([call["id"], call["function"]["name"], ""])
                mine.calls[call["index"]][2] += call["function"].get("arguments") or ""
            mine.finish = choice["finish_reason"] or mine.finish
    return reply


def _message(body):
    reply = Reply()
    mine, usage = reply.choices[0], body["usage"]
    for block in body["content"]:
        if block["type"] == "tool_use":
            mine.calls.append([block["id"], block["name"], json.dumps(block["input"])])
        else:
            mine.text += block.get("text", "")
            mine.reasoning += block.get("thinking", "")
    mine.finish = body["stop_reason"]
    reply.prompt_tokens = usage["input_tokens"] + usage["cache_read_input_tokens"]
    reply.completion_tokens = usage["output_tokens"]
    return reply


def _messages_stream(events):
    """The events put together are the message that a whole answer would be."""
    body, complete = None, False
    for event in events:
        kind = event["type"]
        if kind == "message_start":
            body = event["message"]
        elif kind == "content_block_start":
            body["content"].append({**event["content_block"], "input_text": ""})
        elif kind == "content_block_delta":
            block, delta = body["content"][event["index"]], event["delta"]
            for field, target in (("text", "text"), ("thinking", "thinking"), ("partial_json", "input_text")):
                block[target] = block.get(target, "") + delta.get(field, "")
        elif kind == "message_delta":
            body.update(event["delta"])
            body["usage"] = event["usage"]
        complete = kind == "message_stop"
    for block in body["content"]:
        if block["type"] == "tool_use":
            try:
                block["input"] = json.loads(block["input_text"] or "{}")
            except ValueError:
                block["input"] = {"INVALID_JSON": block["input_text"]}
    reply = _message(body)
    reply.complete = complete
    return reply


def _response(body):
    reply = Reply()
    mine = reply.choices[0]
    for item in body["output"]:
        if item["type"] == "function_call":
            mine.calls.append([item["call_id"], item["name"], item["arguments"]])
        elif item["type"] == "reasoning":
            mine.reasoning += "".join(part["text"] for part in item["content"])
        else:
            mine.text += "".join(part["text"] for part in item["content"])
    mine.finish = "length" if body["status"] == "incomplete" else "tool_calls" if mine.calls else "stop"
    reply.prompt_tokens, reply.completion_tokens = body["usage"]["input_tokens"], body["usage"]["output_tokens"]
    return reply


def _responses_stream(events):
    """The last event has it all; the pieces before it must come to the same."""
    reply = _response(events[-1]["response"]) if events[-1]["type"] in ("response.completed", "response.incomplete") else Reply()
    pieces = {name: "".join(e["delta"] for e in events if e["type"] == f"response.{name}.delta")
              for name in ("output_text", "reasoning_text", "function_call_arguments")}
    mine = reply.choices[0]
    reply.complete = (pieces["output_text"] == mine.text and pieces["reasoning_text"] == mine.reasoning
                      and pieces["function_call_arguments"] == "".join(call[2] for call in mine.calls))
    return reply
