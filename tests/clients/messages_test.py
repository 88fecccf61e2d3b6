"""Anthropic's /v1/messages as the official anthropic client sees it."""
try:
    import anthropic
except ImportError:
    from harness import skip
    skip("the anthropic package of tests/clients/requirements.txt is not installed (./check does that from PyPI)")

from client_case import ClientCase, MESSAGES, run

KEY = "a-key-of-the-test"

GREEDY = {"extra_body": {"temperature": 0}}  # what newer clients do not name any more
SNAIL = [{"role": "user", "content": "Tell me a story about a brave snail."}]  # it goes on behind <think>


class Messages(ClientCase):
    OPTIONS = ("--template", "v3", "--api-key", KEY)
    API_KEY = KEY

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.claude = cls.make_anthropic()

    @classmethod
    def make_anthropic(cls, path="", key=KEY):
        client = anthropic.Anthropic(base_url=cls.server.url + path, api_key=key, max_retries=0, timeout=120)
        cls.addClassCleanup(client.close)
        return client

    def ask(self, **options):
        return self.claude.messages.create(**{"model": self.model, "messages": MESSAGES, "max_tokens": 16, **GREEDY, **options})

    def test_message(self):
        message = self.ask()
        self.assertEqual((message.type, message.role, message.model), ("message", "assistant", self.model))
        self.assertTrue(message.id.startswith("msg_"))
        (block,) = message.content
        self.assertEqual((block.type, block.text), ("text", self.chat(max_tokens=16).choices[0].message.content))
        self.assertEqual((message.stop_reason, message.stop_sequence), ("max_tokens", None))
        usage = message.usage
        self.assertEqual(usage.output_tokens, 16)
        counted = self.claude.messages.count_tokens(model=self.model, messages=MESSAGES)
        self.assertEqual(usage.input_tokens + usage.cache_read_input_tokens, counted.input_tokens)
        self.assertEqual(self.make_anthropic("/anthropic").messages.create(
            model=self.model, messages=MESSAGES, **GREEDY, max_tokens=16).content[0].text, block.text)

    def test_stream_is_the_same_message(self):
        whole = self.ask()
        events = list(self.ask(stream=True))
        kinds = [e.type for e in events]
        self.assertEqual(kinds[:2], ["message_start", "content_block_start"])
        self.assertEqual(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
        self.assertEqual(set(kinds[2:-3]), {"content_block_delta"})
        self.assertGreater(len(kinds), 10)
        with self.claude.messages.stream(model=self.model, messages=MESSAGES, **GREEDY, max_tokens=16) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual((text, final.content[0].text), (whole.content[0].text,) * 2)
        self.assertEqual((final.stop_reason, final.usage.output_tokens), ("max_tokens", 16))
        self.assertEqual(final.usage.input_tokens + final.usage.cache_read_input_tokens,
                         whole.usage.input_tokens + whole.usage.cache_read_input_tokens)

    def test_stream_closed_early_frees_its_slot(self):
        with self.claude.messages.stream(model=self.model, messages=MESSAGES, **GREEDY, max_tokens=900) as stream:
            next(iter(stream.text_stream))
        self.server.wait_idle()

    def test_system_blocks_and_stop_sequences(self):
        expected = self.chat(max_tokens=16, messages=[{"role": "system", "content": "Be kind.\nBe brief."},
                                                      *MESSAGES]).choices[0].message.content
        system = [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief.",
                                                         "cache_control": {"type": "ephemeral"}}]
        self.assertEqual(self.ask(system=system).content[0].text, expected)
        whole = self.ask().content[0].text
        stop = whole[len(whole) // 2:][:4]
        for stream in (False, True):
            if stream:
                with self.claude.messages.stream(model=self.model, messages=MESSAGES, **GREEDY, max_tokens=16,
                                                 stop_sequences=[stop]) as events:
                    message = events.get_final_message()
            else:
                message = self.ask(stop_sequences=[stop, "never in there"])
            self.assertEqual((message.stop_reason, message.stop_sequence), ("stop_sequence", stop))
            self.assertEqual(message.content[0].text, whole.partition(stop)[0])

    def test_the_answer_goes_on_from_the_assistants_words(self):
        whole = self.ask(max_tokens=24).content[0].text
        cut = whole.index(" ", len(whole) // 2)
        rest = self.ask(messages=[*MESSAGES, {"role": "assistant", "content": whole[:cut]}], max_tokens=4).content[0].text
        self.assertTrue(whole[cut:].startswith(rest[:8]), (whole, rest))

    def refused(self, status, kind, word, **options):
        with self.assertRaises(anthropic.APIStatusError) as caught:
            self.ask(**options)
        self.assertEqual(caught.exception.status_code, status)
        error = caught.exception.body
        self.assertEqual((error["type"], error["error"]["type"]), ("error", kind))
        self.assertIn(word, error["error"]["message"])
        return caught.exception

    def test_errors(self):
        image = [{"type": "image", "source": {"type": "url", "url": "http://example.org"}}]
        self.assertIsInstance(self.refused(404, "not_found_error", "no-such", model="no-such-model"), anthropic.NotFoundError)
        self.refused(400, "invalid_request_error", "temperature", extra_body={"temperature": 5})
        self.refused(400, "invalid_request_error", "max_tokens", max_tokens=0)
        self.refused(400, "invalid_request_error", "messages[0].content[0].type",
                     messages=[{"role": "user", "content": image}])
        self.refused(400, "invalid_request_error", "2048", messages=[{"role": "user", "content": "and so on " * 2000}])
        self.refused(400, "invalid_request_error", "mcp_servers", extra_body={"mcp_servers": [{"type": "url"}]})
        with self.assertRaises(anthropic.AuthenticationError):
            self.make_anthropic(key="wrong").messages.create(model=self.model, messages=MESSAGES, max_tokens=1)
        status, _, data = self.server.call("GET", "/v1/messages", headers={"x-api-key": KEY})
        self.assertEqual(status, 405)
        self.assertIn(b'"type":"error"', data)


WEATHER = {"name": "get_weather", "description": "The weather in a city.", "strict": True, "input_schema": {
    "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2, 3]}},
    "required": ["city", "days"], "additionalProperties": False}}


class Tools(ClientCase):
    OPTIONS = ("--template", "v3")

    def test_calls_and_their_results(self):
        client = anthropic.Anthropic(base_url=self.server.url, api_key="none", max_retries=0)
        self.addCleanup(client.close)
        options = {"model": self.model, "messages": MESSAGES, "max_tokens": 400, **GREEDY, "tools": [WEATHER],
                   "tool_choice": {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}}
        message = client.messages.create(**options)
        (call,) = message.content
        self.assertEqual((message.stop_reason, call.type, call.name), ("tool_use", "tool_use", "get_weather"))
        self.assertIn(call.input["city"], ["Paris", "Rome"])
        self.assertIn(call.input["days"], [1, 2, 3])
        with client.messages.stream(**options) as stream:
            kinds = [e.type for e in stream]
            streamed = stream.get_final_message()
        self.assertEqual((streamed.content[0].input, streamed.stop_reason), (call.input, "tool_use"))
        self.assertGreater(kinds.count("input_json"), 1)
        history = [*MESSAGES, {"role": "assistant", "content": message.content},
                   {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}]}]
        answer = client.messages.create(model=self.model, messages=history, max_tokens=4, **GREEDY, tools=[WEATHER])
        self.assertTrue(answer.content[0].text)
        with self.assertRaises(anthropic.BadRequestError) as caught:
            client.messages.create(**{**options, "tools": [{"type": "web_search_20250305", "name": "web_search"}]})
        self.assertIn("tools[0].type", str(caught.exception))


class Thinking(ClientCase):
    """With v3.1 the prompt opens <think>, which this model does not know: all that it writes is a thought."""
    OPTIONS = ("--template", "v3.1")

    def test_thoughts_are_a_block_of_their_own(self):
        thinking = {"type": "enabled", "budget_tokens": 1024}
        options = {"model": self.model, "messages": SNAIL, "max_tokens": 9, **GREEDY}
        with anthropic.Anthropic(base_url=self.server.url, api_key="none", max_retries=0) as client:
            self.assertEqual([b.type for b in client.messages.create(**options).content], ["text"])
            whole = client.messages.create(thinking=thinking, **options)
            with client.messages.stream(thinking=thinking, **options) as stream:
                kinds = [e.type for e in stream]
                final = stream.get_final_message()
        self.assertEqual([b.type for b in whole.content], ["thinking"])
        self.assertTrue(whole.content[0].thinking)
        self.assertIn("thinking", kinds)
        self.assertEqual(final.content[0].thinking, whole.content[0].thinking)
        self.assertEqual(whole.usage.output_tokens_details.thinking_tokens, 9)

    def test_reasoning_in_the_other_apis(self):
        response = self.client.responses.create(model=self.model, input=SNAIL, temperature=0, max_output_tokens=9,
                                                reasoning={"effort": "low"})
        (item,) = response.output
        self.assertEqual((item.type, item.status), ("reasoning", "incomplete"))
        events = list(self.client.responses.create(model=self.model, input=SNAIL, temperature=0, max_output_tokens=9,
                                                   reasoning={"effort": "low"}, stream=True))
        text = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
        self.assertEqual(text, item.content[0].text)
        status, answer = self.server.post("/beta/chat/completions", {"temperature": 0, "max_tokens": 9, "messages": [
            *SNAIL, {"role": "assistant", "prefix": True, "content": "", "reasoning_content": "Once upon"}]})
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["choices"][0]["message"]["content"], "")
        self.assertTrue(answer["choices"][0]["message"]["reasoning_content"])
        self.assertEqual(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 9)


if __name__ == "__main__":
    run()
