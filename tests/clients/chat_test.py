"""/v1/chat/completions and /v1/models as the official openai client sees them."""
import asyncio
import math
import unittest

import openai

from client_case import ClientCase, run


class Chat(ClientCase):
    OPTIONS = ("--template", "v3")

    def test_answer_has_every_field(self):
        answer = self.chat(max_tokens=8)
        self.assertEqual(answer.object, "chat.completion")
        self.assertTrue(answer.id)
        self.assertGreater(answer.created, 1.6e9)
        self.assertEqual(answer.model, self.model)
        (choice,) = answer.choices
        self.assertEqual((choice.index, choice.finish_reason), (0, "length"))
        self.assertEqual(choice.message.role, "assistant")
        self.assertTrue(choice.message.content)
        self.assertIsNone(choice.logprobs)
        usage = answer.usage
        self.assertEqual(usage.completion_tokens, 8)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + 8)
        self.assertEqual(usage.prompt_cache_hit_tokens + usage.prompt_cache_miss_tokens, usage.prompt_tokens)

    def test_stream_is_the_same_answer(self):
        whole = self.chat(max_tokens=40)
        chunks = list(self.chat(max_tokens=40, stream=True))
        self.assertEqual({c.object for c in chunks}, {"chat.completion.chunk"})
        self.assertEqual(len({c.id for c in chunks}), 1)
        self.assertEqual({c.model for c in chunks}, {self.model})
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks), whole.choices[0].message.content)
        self.assertEqual([c.choices[0].finish_reason for c in chunks], [None] * (len(chunks) - 1) + ["length"])
        self.assertTrue(all(c.usage is None for c in chunks))
        self.assertGreater(len(chunks), 20)  # token by token, not at the end

    def test_stream_ends_with_usage_where_asked(self):
        whole = self.chat(max_tokens=12)
        chunks = list(self.chat(max_tokens=12, stream=True, stream_options={"include_usage": True}))
        last = chunks.pop()
        self.assertEqual(last.choices, [])
        self.assertEqual((last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens),
                         (whole.usage.prompt_tokens, 12, whole.usage.prompt_tokens + 12))
        self.assertEqual(last.usage.prompt_cache_hit_tokens + last.usage.prompt_cache_miss_tokens,
                         last.usage.prompt_tokens)
        self.assertTrue(all(c.usage is None for c in chunks))

    def test_stream_closed_early_frees_its_slot(self):
        stream = self.chat(max_tokens=600, stream=True)
        for _ in range(5):
            next(iter(stream))
        self.assertEqual(self.server.metrics()["fathom:num_requests_running"], 1)
        stream.close()
        self.server.wait_idle()

    def test_max_completion_tokens(self):
        self.assertEqual(self.chat(max_completion_tokens=5).usage.completion_tokens, 5)

    def test_n_answers(self):
        answer = self.chat(n=3, max_tokens=16, temperature=1, seed=1)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
        self.assertEqual(len({c.message.content for c in answer.choices}), 3)  # each draws for itself
        self.assertEqual(answer.usage.completion_tokens, 48)
        texts = ["", "", ""]
        for chunk in self.chat(n=3, max_tokens=16, temperature=1, seed=1, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        self.assertEqual(texts, [c.message.content for c in answer.choices])

    def test_seed_repeats_an_answer(self):
        def text(seed):
            return self.chat(max_tokens=24, temperature=1, seed=seed).choices[0].message.content
        first = text(7)
        self.assertEqual(text(7), first)
        self.assertNotEqual(text(8), first)

    def test_stop_strings(self):
        greedy = self.chat(max_tokens=40).choices[0].message.content
        stop = greedy[len(greedy) // 2 : len(greedy) // 2 + 6]  # wherever tokens begin and end
        expected = greedy[: greedy.index(stop)]
        for given in (stop, ["never in there", stop], [stop] + [f"not {i}" for i in range(15)]):
            with self.subTest(stop=given):
                answer = self.chat(max_tokens=40, stop=given).choices[0]
                self.assertEqual((answer.message.content, answer.finish_reason), (expected, "stop"))
                chunks = list(self.chat(max_tokens=40, stop=given, stream=True))
                self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks), expected)
                self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")

    def test_a_stop_string_that_only_begins_is_shown(self):
        greedy = self.chat(max_tokens=20).choices[0].message.content
        stop = greedy[-4:] + "?!"
        chunks = list(self.chat(max_tokens=20, stop=stop, stream=True))
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks), greedy)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")

    def test_logprobs(self):
        for stream in (False, True):
            with self.subTest(stream=stream):
                self.check_logprobs(stream)

    def check_logprobs(self, stream):
        if stream:
            chunks = list(self.chat(max_tokens=10, logprobs=True, top_logprobs=5, stream=True))
            content = [entry for c in chunks if c.choices[0].logprobs for entry in c.choices[0].logprobs.content or []]
            text = "".join(c.choices[0].delta.content or "" for c in chunks)
        else:
            choice = self.chat(max_tokens=10, logprobs=True, top_logprobs=5).choices[0]
            content, text = choice.logprobs.content, choice.message.content
        self.assertEqual(len(content), 10)
        self.assertEqual(b"".join(bytes(entry.bytes) for entry in content).decode(), text)
        for entry in content:
            self.assertEqual(len(entry.top_logprobs), 5)
            values = [top.logprob for top in entry.top_logprobs]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLessEqual(sum(math.exp(v) for v in values), 1 + 1e-5)
            self.assertEqual((entry.token, entry.logprob), (entry.top_logprobs[0].token, values[0]))  # greedy

    def test_top_logprobs_up_to_20(self):
        entry = self.chat(max_tokens=1, logprobs=True, top_logprobs=20).choices[0].logprobs.content[0]
        self.assertEqual(len(entry.top_logprobs), 20)
        entry = self.chat(max_tokens=1, logprobs=True).choices[0].logprobs.content[0]
        self.assertEqual(entry.top_logprobs, [])

    def test_logit_bias_forces_and_forbids(self):
        token = self.ids(" little")[0]
        answer = self.chat(max_tokens=4, logit_bias={str(token): 100})
        self.assertEqual(answer.choices[0].message.content, " little" * 4)
        first = self.chat(max_tokens=1).choices[0].message.content
        forbidden = self.chat(max_tokens=1, logit_bias={str(self.ids(first)[0]): -100}).choices[0].message.content
        self.assertNotEqual(forbidden, first)

    def test_penalties_change_a_repetitive_answer(self):
        """The model's greedy text goes round in circles: a penalty leads out of them."""
        plain = self.chat(max_tokens=96).choices[0].message.content.split()
        for penalty in ({"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repetition_penalty": 1.3}}):
            words = self.chat(max_tokens=96, **penalty).choices[0].message.content.split()
            self.assertGreater(len(set(words)) / len(words), len(set(plain)) / len(plain), penalty)

    def test_sampling_fields_of_other_engines(self):
        greedy = self.chat(max_tokens=12).choices[0].message.content
        for extra in ({"top_k": 1}, {"min_p": 1.0}):
            text = self.chat(max_tokens=12, temperature=1, seed=3, extra_body=extra).choices[0].message.content
            self.assertEqual(text, greedy, extra)
        text = self.chat(max_tokens=12, temperature=1, top_p=1e-6).choices[0].message.content
        self.assertEqual(text, greedy)

    def test_end_of_text_ends_and_is_not_shown(self):
        answer = self.chat(max_tokens=9, logit_bias={"1": 100})
        self.assertEqual((answer.choices[0].message.content, answer.choices[0].finish_reason), ("", "stop"))
        answer = self.chat(max_tokens=9, logit_bias={"1": 100}, extra_body={"ignore_eos": True})
        self.assertEqual((answer.usage.completion_tokens, answer.choices[0].finish_reason), (9, "length"))

    def test_stop_token_ids(self):
        token = self.ids(" little")[0]
        answer = self.chat(max_tokens=9, logit_bias={str(token): 100}, extra_body={"stop_token_ids": [token]})
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertLessEqual(answer.usage.completion_tokens, 1)  # engines differ in counting the one that stops

    def test_content_as_parts_and_developer_role(self):
        expected = self.chat(max_tokens=8, messages=[{"role": "system", "content": "Be kind."},
                                                     {"role": "user", "content": "Tell me\na story."}])
        parts = self.chat(max_tokens=8, messages=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "a story."}]}])
        self.assertEqual(parts.choices[0].message.content, expected.choices[0].message.content)
        self.assertEqual(parts.usage.prompt_tokens, expected.usage.prompt_tokens)

    def test_unknown_fields_are_ignored(self):
        expected = self.chat(max_tokens=6).choices[0].message.content
        answer = self.chat(max_tokens=6, user="somebody", metadata={"a": "b"}, extra_body={"no_such_field": {"x": [1]}})
        self.assertEqual(answer.choices[0].message.content, expected)

    def test_repeated_prompt_is_found_in_the_cache(self):
        messages = [{"role": "user", "content": "A prompt of its own, " + "and a little more of it " * 40}]
        first = self.chat(max_tokens=1, messages=messages).usage
        second = self.chat(max_tokens=1, messages=messages).usage
        self.assertEqual(first.prompt_tokens, second.prompt_tokens)
        self.assertGreater(first.prompt_tokens, 200)
        self.assertLess(first.prompt_cache_hit_tokens, 64)
        # All whole blocks of 64 but the one with the last token, which is computed for its logits.
        self.assertEqual(second.prompt_cache_hit_tokens, (first.prompt_tokens - 1) // 64 * 64)
        self.assertEqual(second.prompt_tokens_details.cached_tokens, second.prompt_cache_hit_tokens)

    def test_models(self):
        (model,) = list(self.client.models.list())
        self.assertEqual((model.id, model.object), (self.model, "model"))
        self.assertEqual(self.client.models.retrieve(model.id).id, model.id)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no-such-model")


class BatchInvariant(ClientCase):
    OPTIONS = ("--template", "v3", "--batch-invariant")

    def test_beside_others_as_alone(self):
        async def ask(client, text):
            answer = await client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": text}], temperature=0, max_tokens=32)
            return answer.choices[0].message.content

        async def ask_all(texts, together):
            async with openai.AsyncOpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0) as client:
                if together:
                    return await asyncio.gather(*(ask(client, text) for text in texts))
                return [await ask(client, text) for text in texts]

        texts = [f"Story number {i}: the {animal}" for i, animal in enumerate(["fox", "hen", "cat", "owl"] * 4)]
        alone = asyncio.run(ask_all(texts, together=False))
        beside = asyncio.run(ask_all(texts, together=True))
        self.assertGreater(len(set(alone)), 4)
        self.assertEqual(beside, alone)


if __name__ == "__main__":
    run()
