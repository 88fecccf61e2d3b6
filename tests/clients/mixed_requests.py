"""Random requests of every kind that `fathom serve` answers, each with what must be true of a complete answer to it."""
import json
import re
import typing

try:
    import jsonschema
    from generated_schemas import any_schema
except ImportError:
    jsonschema = None

WORDS = "the little fox and old king said that she was very glad to see a great house in wood by sea".split()
PERSON = {"type": "object", "required": ["name", "age"], "additionalProperties": False, "properties": {
    "name": {"enum": ["Ann", "Bo \"B\""]}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,6}$"}, "maxItems": 3}}}
TREE = {"$defs": {"node": {"type": "object", "properties": {"v": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}},
                           "required": ["v"], "additionalProperties": False}}, "$ref": "#/$defs/node"}


def is_person(value):
    return (set(value) - {"tags"} == {"name", "age"} and value["name"] in ("Ann", "Bo \"B\"") and value["age"] in range(121)
            and len(value.get("tags", [])) <= 3 and all(re.fullmatch("[a-z]{1,6}", t) for t in value.get("tags", [])))


def is_tree(value):
    while value is not None:
        if not isinstance(value["v"], bool) or set(value) - {"v", "next"} or value.get("next", {}) is None:
            return False
        value = value.get("next")
    return True


def is_numbers(value):
    return 1 <= len(value) <= 4 and all(v in range(-5, 6) for v in value)


SCHEMAS = [(PERSON, is_person), (TREE, is_tree),
           ({"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 5}, "minItems": 1, "maxItems": 4}, is_numbers)]
PATTERNS = [("guided_regex", "[a-c]{3,6}(-[0-9]{2}){1,2}", "[a-c]{3,6}(-[0-9]{2}){1,2}"),
            ("guided_regex", "(yes|no|perhaps), [^x]{1,30}\\.", "(yes|no|perhaps), [^x]{1,30}\\."),
            ("guided_choice", ["a fox", "a king", "\u00fcber"], "a fox|a king|\u00fcber"),
            ("grammar", 'root ::= "(" item ("," item){0,3} ")"\nitem ::= [0-9]{1,3} | "x"', "\\(([0-9]{1,3}|x)(,([0-9]{1,3}|x)){0,3}\\)")]
TOOLS = {"weather": ({"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2, 3]}},
                      "required": ["city", "days"], "additionalProperties": False},
                     lambda a: set(a) == {"city", "days"} and a["city"] in ("Paris", "Rome") and a["days"] in (1, 2, 3)),
         "now": ({"type": "object", "properties": {}, "required": [], "additionalProperties": False}, lambda a: a == {})}
ENDED = ("stop", "end_turn", "tool_calls", "tool_use")


class Ask(typing.NamedTuple):
    api: str  # of replies.read_reply
    path: str
    body: dict
    check: typing.Callable = None  # of a complete choice: true, or something is wrong
    may_refuse: bool = False  # a schema that is not supported: 400 invalid_grammar


def json_of(valid):
    return lambda choice: valid(json.loads(choice.text))


def calls_fit(forced):
    def check(choice):
        return (bool(choice.calls) or not forced) and all(TOOLS[name][1](json.loads(arguments)) for _, name, arguments in choice.calls)
    return check


class Requests:
    def __init__(self, rng, models):
        """models: [(name, positions of its context)]"""
        self.rng, self.models = rng, models
        self.prefixes = [self.words(rng.randrange(20, 200)) for _ in range(6)]

    def words(self, count):
        return " ".join(self.rng.choice(WORDS) for _ in range(count))

    def some(self, **fields):
        """Each of the fields with a chance of 15 %."""
        return {name: value for name, value in fields.items() if self.rng.random() < 0.15}

    def text(self):
        prefix = self.rng.choice(self.prefixes) + " " if self.rng.random() < 0.5 else ""
        return prefix + self.words(self.rng.choice((1, 5, 30, 90)))

    def any(self):
        """An Ask; each kind as often as it stands here."""
        make = self.rng.choice((self.completion, self.completion, self.middle, self.chat, self.chat, self.prefix, self.tools,
                                self.structured, self.structured, self.messages, self.responses))
        ask = make()
        name, positions = self.rng.choices(self.models, weights=[3] + [1] * (len(self.models) - 1))[0]
        body = {"model": name, "temperature": self.rng.choice((0, 0.7, 1, 1.5)), "seed": self.rng.randrange(1 << 30), **ask.body}
        if self.rng.random() < 0.5:
            body["stream"] = True
            if ask.api in ("completions", "chat"):
                body["stream_options"] = {"include_usage": True}
        if isinstance(body.get("prompt"), list) and isinstance(body["prompt"][0], int):
            body["prompt"] = body["prompt"][:positions // 2]
        return ask._replace(body=body)

    def length(self):
        return self.rng.choice((1, 2, 8, 32, 32, 100, 200))

    def completion(self):
        rng = self.rng
        body = {"prompt": self.text(), "max_tokens": self.length(), "priority": rng.randrange(-2, 3), **self.some(
            n=rng.randrange(2, 5), stop=[" the", "\n"], logprobs=rng.randrange(0, 21), frequency_penalty=0.5, top_k=40, min_p=0.05,
            top_p=0.9, ignore_eos=True, logit_bias={"300": 2}, echo=True, repetition_penalty=1.1)}
        if rng.random() < 0.1:
            body["prompt"] = [rng.randrange(3, 4000) for _ in range(rng.choice((1, 64, 65, 1000)))]
        elif rng.random() < 0.05:
            body["prompt"] = [body["prompt"], body["prompt"]]
        return Ask("completions", "/v1/completions", body)

    def middle(self):
        path = self.rng.choice(("/beta/completions", "/v1/completions"))
        return Ask("completions", path, {"prompt": self.text(), "suffix": self.words(8), "max_tokens": self.length()})

    def turns(self):
        turns = [{"role": "user", "content": self.text()}]
        if self.rng.random() < 0.3:
            turns += [{"role": "assistant", "content": self.words(12)}, {"role": "user", "content": self.words(4)}]
        return turns

    def chat(self):
        body = {"messages": self.turns(), "max_tokens": self.length(), **self.some(
            n=2, logprobs=True, stop=["."], presence_penalty=0.5, chat_template_kwargs={"thinking": True})}
        if self.rng.random() < 0.3:
            body["messages"].insert(0, {"role": "system", "content": self.prefixes[0]})
        return Ask("chat", self.rng.choice(("/v1/chat/completions", "/chat/completions")), body)

    def prefix(self):
        turns = [*self.turns(), {"role": "assistant", "content": self.words(6), "prefix": True}]
        return Ask("chat", "/beta/chat/completions", {"messages": turns, "max_tokens": self.length(), **self.some(stop=["."])})

    def tools(self):
        """The function in the form of each API, the choice in its words."""
        rng = self.rng
        api = rng.choice(("chat", "chat", "messages", "responses"))
        choice = rng.choice(("auto", "required", "required", "none"))
        turns, length = [{"role": "user", "content": self.words(5)}], {"max_tokens": 200}
        check = calls_fit(choice == "required")
        if api == "messages":
            tools = [{"name": n, "input_schema": s, "strict": True} for n, (s, _) in TOOLS.items()]
            choice = {"type": "any" if choice == "required" else choice}
            return Ask(api, "/v1/messages", {"messages": turns, "tools": tools, "tool_choice": choice, **length}, check)
        tools = [{"name": n, "parameters": s, "strict": True} for n, (s, _) in TOOLS.items()]
        if api == "responses":
            tools = [{"type": "function", **t} for t in tools]
            return Ask(api, "/v1/responses", {"input": turns, "tools": tools, "tool_choice": choice, "max_output_tokens": 200}, check)
        tools = [{"type": "function", "function": t} for t in tools]
        return Ask(api, "/v1/chat/completions", {"messages": turns, "tools": tools, "tool_choice": choice, **length,
                                                 "parallel_tool_calls": rng.random() < 0.5}, check)

    def results(self, ask, reply):
        """The request that follows on an answer with calls in `chat`: what the tools said."""
        mine = reply.choices[0]
        calls = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in mine.calls]
        turns = [*ask.body["messages"], {"role": "assistant", "content": mine.text or None, "tool_calls": calls},
                 *({"role": "tool", "tool_call_id": c["id"], "content": "Sunny."} for c in calls)]
        return ask._replace(body={**ask.body, "messages": turns, "tool_choice": "none", "max_tokens": 16})

    def schema(self):
        if not jsonschema or self.rng.random() < 0.3:
            return (*self.rng.choice(SCHEMAS), False)
        schema = any_schema(self.rng, 2)
        return schema, jsonschema.Draft202012Validator(schema).is_valid, True

    def structured(self):
        rng = self.rng
        api = rng.choice(("chat", "completions", "messages", "responses"))
        if rng.random() < 0.4 and api in ("chat", "completions"):
            field, value, pattern = rng.choice(PATTERNS)
            fields, check, may_refuse = {field: value}, lambda choice: re.fullmatch(pattern, choice.text), False
        else:
            schema, valid, may_refuse = self.schema()
            form, check = {"type": "json_schema", "schema": schema}, json_of(valid)
            fields = {"messages": {"output_config": {"format": form}}, "responses": {"text": {"format": {"name": "s", **form}}}}.get(
                api, {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}})
        if api == "chat" and rng.random() < 0.2:
            fields["chat_template_kwargs"] = {"thinking": True}
        if api == "responses":
            return Ask(api, "/v1/responses", {"input": self.text(), "max_output_tokens": 200, **fields}, check, may_refuse)
        said = {"prompt": self.text()} if api == "completions" else {"messages": self.turns()}
        path = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "messages": "/v1/messages"}[api]
        return Ask(api, path, {**said, "max_tokens": 200, **fields}, check, may_refuse)

    def messages(self):
        body = {"messages": self.turns(), "max_tokens": self.length(), **self.some(
            system=self.prefixes[1], stop_sequences=["."], thinking={"type": "enabled", "budget_tokens": 1024}, top_k=20)}
        return Ask("messages", self.rng.choice(("/v1/messages", "/anthropic/v1/messages")), body)

    def responses(self):
        return Ask("responses", "/v1/responses", {"input": self.turns(), "max_output_tokens": self.length(), **self.some(
            instructions=self.prefixes[2], reasoning={"effort": "low"}, top_logprobs=3, include=["message.output_text.logprobs"])})

    def wrong(self):
        """(path, body) of a request that is refused with 400, 404 or 422."""
        return self.rng.choice((
            ("/v1/completions", {"prompt": "x", "temperature": 7}), ("/v1/completions", {"prompt": []}),
            ("/v1/completions", {"prompt": "x", "max_tokens": "y"}), ("/v1/completions", b"{"), ("/v1/completions", b""),
            ("/v1/completions", {"prompt": [3] * 5000}), ("/v1/completions", {"prompt": "x", "tools": [1]}),
            ("/v1/completions", b"[" * 10000), ("/v1/completions", {"prompt": "x", "model": "nobody"}),
            ("/v1/chat/completions", {"messages": []}), ("/chat/completions", {"messages": [{"role": "user", "content": "x"}], "top_p": 3}),
            ("/v1/chat/completions", {"messages": [{"role": "tool", "tool_call_id": "none", "content": "x"}]}),
            ("/v1/completions", {"prompt": "x", "guided_regex": "(a"}), ("/v1/completions", {"prompt": "x", "grammar": "root ::= a"}),
            ("/v1/chat/completions", {"messages": self.turns(), "response_format": {"type": "json_schema", "json_schema": {
                "schema": {"$ref": "http://elsewhere/"}}}}),
            ("/v1/messages", {"messages": self.turns()}), ("/v1/responses", {"input": "x", "previous_response_id": "r"}),
            ("/v1/responses", {"input": []}), ("/v1/none", {})))
