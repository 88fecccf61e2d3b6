"""What the server refuses, and how: OpenAI's error object, the field's name in it, and the class that the official client
makes of it. Also keys, models without a chat template, and who may call what.
"""
import unittest

import openai

from client_case import ClientCase, MESSAGES, run
from harness import Server, model_without_template

KEY = "a-key-of-the-test"


class Errors(ClientCase):
    OPTIONS = ("--template", "v3")

    def refused(self, field, call, **options):
        """The 400 that names `field`."""
        with self.assertRaises(openai.BadRequestError) as caught:
            answer = call(**options)
            if options.get("stream"):
                list(answer)
        error = caught.exception
        self.assertEqual(error.type, "invalid_request_error")
        self.assertTrue(error.body["message"])
        self.assertRegex(error.param or "", rf"^{field}($|[.\[])", error.body)  # the field, or a part of it
        return error

    def test_wrong_values_of_a_chat(self):
        cases = {
            "temperature": [3, -1, "hot", [1]],
            "top_p": [-0.1, 1.5, "all"],
            "max_tokens": [-1, "many", 1.5],
            "max_completion_tokens": [-1],
            "n": [0, -1, "two"],
            "stop": [["x"] * 17, 5, [1]],
            "frequency_penalty": [2.5, "none"],
            "presence_penalty": [-2.5],
            "top_logprobs": [21, -1],
            "logprobs": ["yes"],
            "logit_bias": [[1], {"little": 1}, {"1": "much"}, {"99999": 1}],
            "seed": ["seed"],
            "stream": ["yes"],
            "messages": [[], "hello", [1]],
        }
        for field, values in cases.items():
            for value in values:
                with self.subTest(field=field, value=value):
                    base = {"logprobs": True} if field == "top_logprobs" else {}
                    self.refused(field, self.chat, **base, extra_body={"max_tokens": 1, field: value})

    def test_wrong_values_of_other_engines_fields(self):
        cases = {"top_k": ["many", -2], "min_p": [-0.1, 1.5], "ignore_eos": ["yes"], "stop_token_ids": [5, ["x"]]}
        for field, values in cases.items():
            for value in values:
                with self.subTest(field=field, value=value):
                    self.refused(field, self.chat, max_tokens=1, extra_body={field: value})

    def test_wrong_messages_are_named(self):
        for messages in ([{"role": "wizard", "content": "x"}], [{"content": "x"}], [{"role": "user", "content": 5}],
                         [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
                         [{"role": "user"}]):
            with self.subTest(messages=messages):
                with self.assertRaises(openai.BadRequestError) as caught:
                    self.chat(messages=messages)
                self.assertTrue((caught.exception.param or "").startswith("messages"), caught.exception.body)

    def test_wrong_values_of_a_completion(self):
        cases = {"prompt": [[], 5, [5, "mixed"], [99999], [-1]], "logprobs": [-1, 99, "two"], "n": [0],
                 "max_tokens": [-1], "echo": ["yes"]}
        for field, values in cases.items():
            for value in values:
                with self.subTest(field=field, value=value):
                    self.refused(field, self.complete, extra_body={"max_tokens": 1, field: value})

    def test_what_cannot_be_held_to_is_refused_by_name(self):
        schema = {"name": "s", "strict": True, "schema": {"type": "array", "uniqueItems": True}}
        self.refused("response_format", self.chat, response_format={"type": "json_schema", "json_schema": schema})
        self.refused("response_format", self.chat, extra_body={"response_format": {"type": "xml"}})
        clash = [{"type": "function", "function": {"name": "f"}}] * 2
        self.refused("tools", self.chat, tools=clash)
        self.assertTrue(self.chat(max_tokens=1, response_format={"type": "text"}).choices)

    def test_a_stream_is_refused_before_it_begins(self):
        self.refused("temperature", self.chat, stream=True, extra_body={"temperature": 9})

    def test_prompt_longer_than_the_context(self):
        for call, options in ((self.chat, {"messages": [{"role": "user", "content": "and so on " * 2000}]}),
                              (self.complete, {"prompt": [300] * 2049})):
            with self.assertRaises(openai.BadRequestError) as caught:
                call(max_tokens=1, **options)
            self.assertEqual(caught.exception.code, "context_length_exceeded")
            self.assertIn("2048", caught.exception.body["message"])

    def test_unknown_model(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="no-such-model", messages=MESSAGES)
        self.assertEqual((caught.exception.code, caught.exception.param), ("model_not_found", "model"))

    def test_bodies_that_are_no_request(self):
        for body in (b"", b"{", b"[]", b"null", b'"text"', b"{\"messages\": }", b"\xff\xfe", b"{}" * 2,
                     b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"[" * 10000, b'{"a":' * 10000):
            with self.subTest(body=body[:20]):
                status, answer = self.server.post("/v1/completions", body)
                self.assertEqual(status, 400)
                self.assertEqual(answer["error"]["type"], "invalid_request_error")

    def test_unknown_paths_and_methods(self):
        status, answer = self.server.post("/v1/no-such-path", {})
        self.assertEqual(status, 404)
        self.assertIn("error", answer)
        status, headers, _ = self.server.get("/v1/chat/completions")
        self.assertEqual(status, 405)
        self.assertIn("POST", headers.get("allow", ""))

    def test_cors_preflight(self):
        status, headers, _ = self.server.call("OPTIONS", "/v1/chat/completions", headers={
            "Origin": "http://example.org", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type"})
        self.assertIn(status, (200, 204))
        self.assertIn(headers["access-control-allow-origin"], ("*", "http://example.org"))
        self.assertIn("authorization", headers["access-control-allow-headers"].lower())

    def test_tokenize_refuses(self):
        for path, body, field in (("/tokenize", {}, "prompt"), ("/tokenize", {"prompt": 5}, "prompt"),
                                  ("/detokenize", {"tokens": "x"}, "tokens"),
                                  ("/detokenize", {"tokens": [99999]}, "tokens")):
            with self.subTest(path=path, body=body):
                status, answer = self.server.post(path, body)
                self.assertEqual(status, 400)
                self.assertRegex(answer["error"]["param"], rf"^{field}($|\[)")


class Keys(ClientCase):
    OPTIONS = ("--api-key", KEY)
    API_KEY = KEY

    def test_the_right_key(self):
        self.assertEqual(self.complete(max_tokens=1).usage.completion_tokens, 1)

    def test_wrong_keys(self):
        for key in ("wrong", KEY + "x", KEY[:-1], "x"):
            with self.subTest(key=key):
                with self.assertRaises(openai.AuthenticationError) as caught:
                    self.make_client(key).models.list()
                self.assertEqual(caught.exception.code, "invalid_api_key")
                self.assertNotIn(KEY, str(caught.exception.body))

    def test_what_needs_a_key(self):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("POST", "/v1/chat/completions"),
                             ("POST", "/tokenize"), ("POST", "/detokenize"), ("POST", "/v1/no-such-path")):
            with self.subTest(path=path):
                self.assertEqual(self.server.call(method, path, {} if method == "POST" else None)[0], 401)
        for path in ("/health", "/metrics", "/"):
            with self.subTest(path=path):
                self.assertEqual(self.server.get(path)[0], 200)


class CompletionOnly(unittest.TestCase):
    def test_without_a_template(self):
        with model_without_template() as folder, Server(model=folder) as server:
            with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
                model = client.models.list().data[0].id
                self.assertTrue(client.completions.create(model=model, prompt="It was", max_tokens=4).choices[0].text)
                with self.assertRaises(openai.BadRequestError) as caught:
                    client.chat.completions.create(model=model, messages=MESSAGES)
                self.assertIn("template", caught.exception.body["message"])


class Options(unittest.TestCase):
    def test_served_model_name(self):
        with Server("--served-model-name", "stories") as server:
            with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
                self.assertEqual(client.models.list().data[0].id, "stories")
                answer = client.completions.create(model="stories", prompt="It was", max_tokens=1)
                self.assertEqual(answer.model, "stories")


if __name__ == "__main__":
    run()
