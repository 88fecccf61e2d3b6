"""DeepSeek's API as its users call it: the official openai client with base_url at the root and at /beta, and raw requests for
what that client does not show (keep-alive lines, the balance, the bodies of errors).
"""
import contextlib
import http.client
import json
import threading
import unittest

import openai

from client_case import ClientCase, MESSAGES, PROMPT, run
from harness import Server

KEY = "a-key-of-the-test"
LONG = {"messages": MESSAGES, "max_tokens": 900, "temperature": 0, "ignore_eos": True}


class DeepSeek(ClientCase):
    OPTIONS = ("--template", "v3", "--api-key", KEY)
    API_KEY = KEY

    @classmethod
    def at(cls, path, key=KEY):
        client = openai.OpenAI(base_url=cls.server.url + path, api_key=key, max_retries=0, timeout=120)
        cls.addClassCleanup(client.close)
        return client

    def test_chat_at_the_root(self):
        client = self.at("")
        expected = self.chat(max_tokens=12)
        answer = client.chat.completions.create(model=self.model, messages=MESSAGES, temperature=0, max_tokens=12)
        self.assertEqual(answer.choices[0].message.content, expected.choices[0].message.content)
        self.assertTrue(answer.system_fingerprint)
        usage = answer.usage
        self.assertEqual(usage.prompt_cache_hit_tokens + usage.prompt_cache_miss_tokens, usage.prompt_tokens)
        self.assertEqual(usage.completion_tokens_details.reasoning_tokens, 0)
        chunks = list(client.chat.completions.create(model=self.model, messages=MESSAGES, temperature=0, max_tokens=12,
                                                     stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks[:-1]),
                         answer.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, 12)
        self.assertEqual([m.id for m in client.models.list()], [self.model])

    def test_prefix(self):
        beta = self.at("/beta")
        whole = self.chat(max_tokens=24).choices[0].message.content
        cut = len(whole) // 2
        while whole[cut] != " ":  # where a token begins, so that the prompt is the answer's own tokens
            cut += 1
        messages = [*MESSAGES, {"role": "assistant", "content": whole[:cut], "prefix": True}]
        rest = beta.chat.completions.create(model=self.model, messages=messages, temperature=0, max_tokens=4)
        self.assertTrue(whole[cut:].startswith(rest.choices[0].message.content[:8]), (whole, cut, rest))
        streamed = "".join(c.choices[0].delta.content or "" for c in beta.chat.completions.create(
            model=self.model, messages=messages, temperature=0, max_tokens=4, stream=True))
        self.assertEqual(streamed, rest.choices[0].message.content)
        stop = rest.choices[0].message.content[2:5]
        stopped = beta.chat.completions.create(model=self.model, messages=messages, temperature=0, max_tokens=4, stop=[stop])
        self.assertEqual((stopped.choices[0].finish_reason, stopped.choices[0].message.content),
                         ("stop", rest.choices[0].message.content.partition(stop)[0]))
        with self.assertRaises(openai.UnprocessableEntityError) as caught:
            self.at("").chat.completions.create(model=self.model, messages=messages)
        self.assertEqual(caught.exception.param, f"messages[{len(messages) - 1}].prefix")

    def test_fill_in_the_middle(self):
        for client in (self.at("/beta"), self.client):
            answer = client.completions.create(model=self.model, prompt=PROMPT, suffix=" and they were happy.",
                                               temperature=0, max_tokens=8)
            self.assertEqual(answer.usage.completion_tokens, 8)
            echoed = client.completions.create(model=self.model, prompt=PROMPT, suffix=" and they were happy.",
                                               temperature=0, max_tokens=8, echo=True)
            self.assertEqual(echoed.choices[0].text, PROMPT + answer.choices[0].text)
            # bos, begin, prompt, hole, suffix, end
            self.assertEqual(answer.usage.prompt_tokens,
                             4 + len(self.key_ids(PROMPT)) + len(self.key_ids(" and they were happy.")))
            streamed = "".join(c.choices[0].text for c in client.completions.create(
                model=self.model, prompt=PROMPT, suffix=" and they were happy.", temperature=0, max_tokens=8, stream=True))
            self.assertEqual(streamed, answer.choices[0].text)

    def key_ids(self, text):
        status, answer = self.server.post("/tokenize", {"prompt": text, "add_special_tokens": False},
                                          {"Authorization": f"Bearer {KEY}"})
        self.assertEqual(status, 200)
        return answer["tokens"]

    def test_errors(self):
        auth = {"Authorization": f"Bearer {KEY}"}
        cases = ((b"{", auth, 400, "invalid_request_error"), (b"{}", auth, 422, "invalid_request_error"),
                 ({"messages": MESSAGES, "temperature": 9}, auth, 422, "invalid_request_error"),
                 ({"messages": MESSAGES, "model": "none"}, auth, 400, "invalid_request_error"),
                 ({"messages": MESSAGES}, {}, 401, "authentication_error"))
        for body, headers, status, kind in cases:
            with self.subTest(body=body):
                got, answer = self.server.post("/chat/completions", body, headers)
                self.assertEqual(got, status)
                self.assertEqual((answer["error"]["type"], answer["error"]["code"]), (kind, "invalid_request_error"))
                self.assertTrue(answer["error"]["message"])
        with self.assertRaises(openai.UnprocessableEntityError) as caught:
            self.at("/beta").chat.completions.create(model=self.model, messages=MESSAGES, top_p=3)
        self.assertEqual(caught.exception.param, "top_p")

    def test_embeddings_are_refused(self):
        with self.assertRaises(openai.InternalServerError) as caught:
            self.client.embeddings.create(model=self.model, input="x")
        self.assertEqual((caught.exception.status_code, caught.exception.code), (501, "not_implemented"))
        self.assertEqual(self.server.post("/v1/embeddings", {})[0], 401)

    def test_balance(self):
        status, _, data = self.server.get("/user/balance", {"Authorization": f"Bearer {KEY}"})
        self.assertEqual((status, json.loads(data)["is_available"]), (200, True))
        self.assertEqual(self.server.get("/user/balance")[0], 401)


class Operator(unittest.TestCase):
    def test_balance_and_none_left(self):
        with Server("--balance", "12.5", "--currency", "USD") as server:
            answer = json.loads(server.get("/user/balance")[2])
            self.assertEqual(answer, {"is_available": True, "balance_infos": [
                {"currency": "USD", "total_balance": "12.50", "granted_balance": "0.00", "topped_up_balance": "12.50"}]})
        with Server("--template", "v3", "--balance", "0") as server:
            self.assertFalse(json.loads(server.get("/user/balance")[2])["is_available"])
            status, answer = server.post("/chat/completions", {"messages": MESSAGES})
            self.assertEqual((status, answer["error"]["message"]), (402, "Insufficient Balance"))
            status, answer = server.post("/v1/messages", {"messages": MESSAGES, "max_tokens": 1})
            self.assertEqual((status, answer["error"]["type"]), (402, "billing_error"))

    def wait_behind(self, server, path, body):
        """The whole response to a request that waits behind a long one: a stream of lines, as bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()

    def test_waiting_connections_are_kept_alive(self):
        with Server("--template", "v3", "--max-running", "1", "--keep-alive-seconds", "0.05") as server:
            def busy():
                server.post("/v1/chat/completions", LONG)
            short = {"messages": MESSAGES, "max_tokens": 2, "temperature": 0}
            for path, stream, mark in (("/chat/completions", True, b": keep-alive\n\n"), ("/chat/completions", False, b"\n"),
                                       ("/v1/messages", True, b'event: ping\ndata: {"type":"ping"}\n\n')):
                with self.subTest(path=path, stream=stream):
                    first = threading.Thread(target=busy)
                    first.start()
                    while server.metrics()["fathom:num_requests_running"] == 0:
                        pass
                    status, data = self.wait_behind(server, path, {**short, "stream": stream})
                    first.join()
                    self.assertEqual(status, 200)
                    self.assertIn(mark, data)
                    if not stream:
                        self.assertTrue(data.startswith(b"\n"))
                        self.assertEqual(json.loads(data)["usage"]["completion_tokens"], 2)

    def test_who_waits_too_long_is_told_so(self):
        with Server("--template", "v3", "--max-running", "1", "--wait-seconds", "0.2") as server:
            def busy():
                server.post("/v1/chat/completions", LONG)
            first = threading.Thread(target=busy)
            first.start()
            while server.metrics()["fathom:num_requests_running"] == 0:
                pass
            answers = {}
            def ask(name, path, body):
                answers[name] = self.wait_behind(server, path, body)
            short = {"messages": MESSAGES, "max_tokens": 2}
            threads = [threading.Thread(target=ask, args=case) for case in (
                ("openai", "/v1/chat/completions", short), ("deepseek", "/chat/completions", short),
                ("stream", "/chat/completions", {**short, "stream": True}), ("anthropic", "/v1/messages", short))]
            for thread in threads:
                thread.start()
            for thread in [*threads, first]:
                thread.join()
            self.assertEqual({name: answer[0] for name, answer in answers.items()},
                             {"openai": 503, "deepseek": 503, "stream": 200, "anthropic": 529})
            self.assertIn(b'"finish_reason":"insufficient_system_resource"', answers["stream"][1])
            self.assertTrue(answers["stream"][1].endswith(b"data: [DONE]\n\n"))
            server.wait_idle()

    def test_an_answer_cut_off_by_the_end_has_its_text(self):
        with Server("--template", "v3", "--drain-seconds", "0") as server:
            answer = {}
            def ask():
                answer["whole"] = self.wait_behind(server, "/chat/completions", LONG)
            thread = threading.Thread(target=ask)
            thread.start()
            while server.metrics().get("fathom:time_to_first_token_seconds_count", 0) == 0:
                pass
            server.process.terminate()
            thread.join()
            self.assertEqual(server.process.wait(30), 0)
            status, data = answer["whole"]
            choice = json.loads(data)["choices"][0]
            self.assertEqual((status, choice["finish_reason"]), (200, "insufficient_system_resource"))
            self.assertTrue(choice["message"]["content"])

    def test_temperature_of_the_api(self):
        """1 is 0.3 of the model's: less surprising than 1, for the same seed, on average."""
        def spread(server):
            texts = [server.post("/chat/completions", {"messages": MESSAGES, "max_tokens": 8, "temperature": 1,
                                                       "seed": seed})[1]["choices"][0]["message"]["content"]
                     for seed in range(24)]
            return len(set(texts))
        with Server("--template", "v3") as server:
            plain = spread(server)
        with Server("--template", "v3", "--deepseek-temperature") as server:
            self.assertLess(spread(server), plain)


if __name__ == "__main__":
    run()
