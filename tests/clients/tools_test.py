"""Tools as the official openai client sees them: forced calls, streamed and whole, strict arguments, histories."""
import json

import openai

from client_case import ClientCase, run

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather in a city.", "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2, 3]}},
                   "required": ["city", "days"], "additionalProperties": False}}}
NOW = {"type": "function", "function": {
    "name": "now", "strict": True,
    "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False}}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def joined(chunks):
    """The calls of a stream: [(id, name, arguments)], and how many pieces the arguments came in."""
    calls, pieces = [], 0
    for chunk in chunks:
        for delta in chunk.choices[0].delta.tool_calls or []:
            if delta.index == len(calls):
                assert delta.id and delta.function.name and delta.type == "function", delta
                calls.append([delta.id, delta.function.name, delta.function.arguments or ""])
            else:
                assert not delta.id and delta.function.name is None, delta
                calls[delta.index][2] += delta.function.arguments
                pieces += 1
    return [tuple(c) for c in calls], pieces


class Tools(ClientCase):
    OPTIONS = ("--template", "v3")

    def call(self, **options):
        return self.chat(**{"tools": [WEATHER, NOW], "tool_choice": NAMED, "parallel_tool_calls": False,
                            "max_tokens": 200, **options})

    def test_a_named_function_is_called_with_arguments_that_fit(self):
        (choice,) = self.call().choices
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertIsNone(choice.message.content)
        (call,) = choice.message.tool_calls
        self.assertEqual((call.type, call.function.name), ("function", "get_weather"))
        self.assertTrue(call.id)
        arguments = json.loads(call.function.arguments)
        self.assertEqual(set(arguments), {"city", "days"})
        self.assertIn(arguments["city"], ["Paris", "Rome"])
        self.assertIn(arguments["days"], [1, 2, 3])

    def test_a_stream_is_the_same_call(self):
        (choice,) = self.call().choices
        chunks = list(self.call(stream=True))
        (call,), pieces = joined(chunks)
        self.assertEqual(call[1:], ("get_weather", choice.message.tool_calls[0].function.arguments))
        self.assertGreater(pieces, 1)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "tool_calls")
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks), "")

    def test_required(self):
        (choice,) = self.call(tool_choice="required").choices
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertIn(choice.message.tool_calls[0].function.name, ["get_weather", "now"])

    def test_none_and_auto(self):
        for how in ("none", "auto"):
            (choice,) = self.call(tool_choice=how, max_tokens=20).choices
            self.assertIsNone(choice.message.tool_calls, how)
            self.assertIsInstance(choice.message.content, str, how)

    def test_history_is_found_in_the_cache(self):
        messages = [{"role": "user", "content": "What is the weather? " + "Say it at length. " * 30}]
        first = self.call(messages=messages, temperature=1, seed=4)
        message = first.choices[0].message
        messages += [message.model_dump(exclude_none=True),
                     {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Sunny."}]
        second = self.chat(messages=messages, tools=[WEATHER, NOW], max_tokens=4)
        self.assertTrue(second.choices[0].message.content)
        whole = first.usage.prompt_tokens + first.usage.completion_tokens
        # All blocks of 64 that the first request has filled, but for the call's last token.
        self.assertGreaterEqual(second.usage.prompt_cache_hit_tokens, (whole - 2) // 64 * 64)
        self.assertGreater(second.usage.prompt_tokens, whole)

    def test_what_is_wrong_is_named(self):
        for field, options in (("tools[1].function.name", {"tools": [NOW, NOW]}),
                               ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "a b"}}]}),
                               ("tool_choice.function.name", {"tools": [NOW], "tool_choice": NAMED})):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.chat(**{"tools": [NOW], **options})
            self.assertEqual(caught.exception.body["param"], field)


class ToolsOfV31(Tools):
    OPTIONS = ("--template", "v3.1")


if __name__ == "__main__":
    run()
