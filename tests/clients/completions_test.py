"""/v1/completions, /tokenize and /detokenize: what evaluation harnesses need, as the official openai client sees it."""
import json
import math
import struct
import unittest

from client_case import ClientCase, PROMPT, run
from harness import MODEL, SOURCE

# What is compared is float32 on both sides, the golden files' and transformers' against the server's: a logit, below 30
# in size, is behind some hundred sums in a row that are each off by 2^-24 of their terms, 2e-4 together.
LOGPROB_TOLERANCE = 0.0005


def golden():
    """[(prompt ids, greedy ids, logits behind the prompt)] of the shipped model."""
    data = (MODEL / "golden.safetensors").read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])

    def values(name):
        entry = header[name]
        begin, end = (8 + size + o for o in entry["data_offsets"])
        code = {"I64": "q", "I32": "i", "F32": "f"}[entry["dtype"]]
        return list(struct.unpack(f"<{(end - begin) // struct.calcsize(code)}{code}", data[begin:end]))

    return [tuple(values(f"{name}.{i}") for name in ("prompt_ids", "greedy_ids", "last_logits"))
            for i in range(sum(name.startswith("prompt_ids.") for name in header))]


class Completions(ClientCase):
    OPTIONS = ("--compute", "f32", "--cache-dtype", "f32")

    def test_answer_has_every_field(self):
        answer = self.complete(max_tokens=8)
        self.assertEqual((answer.object, answer.model), ("text_completion", self.model))
        (choice,) = answer.choices
        self.assertEqual((choice.index, choice.finish_reason, choice.logprobs), (0, "length", None))
        self.assertTrue(choice.text)
        self.assertEqual(answer.usage.completion_tokens, 8)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + 8)

    def test_golden_continuations(self):
        expected = json.loads((MODEL / "golden.json").read_text())["prompts"]
        for given, (ids, greedy, logits) in zip(expected, golden()):
            with self.subTest(prompt=given["prompt"]):
                text = self.complete(prompt=given["prompt"], max_tokens=16, logprobs=5,
                                     extra_body={"ignore_eos": True})
                self.assertEqual(text.usage.prompt_tokens, len(ids))  # the template-less prompt begins with BOS
                by_ids = self.complete(prompt=ids, max_tokens=16, logprobs=5, extra_body={"ignore_eos": True})
                self.assertEqual(by_ids.choices[0].text, text.choices[0].text)
                log_sum = math.log(sum(math.exp(v) for v in logits))
                self.assertAlmostEqual(by_ids.choices[0].logprobs.token_logprobs[0], logits[greedy[0]] - log_sum,
                                       delta=LOGPROB_TOLERANCE)
                best = sorted((v - log_sum for v in logits), reverse=True)[:5]
                given_top = sorted(by_ids.choices[0].logprobs.top_logprobs[0].values(), reverse=True)
                for ours, theirs in zip(given_top, best):
                    self.assertAlmostEqual(ours, theirs, delta=LOGPROB_TOLERANCE)
                self.assertTrue(given["greedy_text"].startswith(by_ids.choices[0].text[:10]))

    def test_stream_is_the_same_answer(self):
        whole = self.complete(max_tokens=40)
        chunks = list(self.complete(max_tokens=40, stream=True, stream_options={"include_usage": True}))
        last = chunks.pop()
        self.assertEqual(last.choices, [])
        self.assertEqual(last.usage.completion_tokens, 40)
        self.assertEqual("".join(c.choices[0].text for c in chunks), whole.choices[0].text)
        self.assertEqual([c.choices[0].finish_reason for c in chunks][-1], "length")
        self.assertGreater(len(chunks), 20)

    def test_logprobs(self):
        choice = self.complete(max_tokens=10, logprobs=3).choices[0]
        logprobs = choice.logprobs
        self.assertEqual([len(x) for x in (logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs,
                                           logprobs.text_offset)], [10] * 4)
        self.assertEqual("".join(logprobs.tokens), choice.text)
        for token, value, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
            self.assertIn(len(top), (3, 4))
            self.assertEqual(top[token], value)
            self.assertEqual(max(top.values()), value)  # greedy
        offsets = [len(PROMPT)] if logprobs.text_offset[0] else [0]
        for token in logprobs.tokens[:-1]:
            offsets.append(offsets[-1] + len(token))
        self.assertEqual(logprobs.text_offset, offsets)

    def test_logprobs_of_a_stream(self):
        whole = self.complete(max_tokens=10, logprobs=2).choices[0].logprobs
        tokens, values = [], []
        for chunk in self.complete(max_tokens=10, logprobs=2, stream=True):
            if chunk.choices and chunk.choices[0].logprobs:
                tokens += chunk.choices[0].logprobs.tokens
                values += chunk.choices[0].logprobs.token_logprobs
        self.assertEqual((tokens, values), (whole.tokens, whole.token_logprobs))

    def test_echo(self):
        plain = self.complete(max_tokens=6).choices[0].text
        self.assertEqual(self.complete(max_tokens=6, echo=True).choices[0].text, PROMPT + plain)
        text = "".join(c.choices[0].text for c in self.complete(max_tokens=6, echo=True, stream=True))
        self.assertEqual(text, PROMPT + plain)

    def test_echo_with_logprobs_scores_the_prompt(self):
        ids = golden()[0][0]
        both = self.complete(prompt=ids, max_tokens=1, echo=True, logprobs=1)
        self.assertEqual(both.usage.prompt_tokens, len(ids))
        logprobs = both.choices[0].logprobs
        self.assertEqual(len(logprobs.tokens), len(ids) + 1)
        self.assertEqual(len(logprobs.token_logprobs), len(ids) + 1)
        self.assertIsNone(logprobs.token_logprobs[0])
        self.assertIsNone(logprobs.top_logprobs[0])
        # Of each token: what a request for it alone says.
        for at in (2, len(ids) - 1):
            step = self.complete(prompt=ids[:at], max_tokens=1, logprobs=5, logit_bias={str(ids[at]): 100})
            self.assertAlmostEqual(step.choices[0].logprobs.token_logprobs[0], logprobs.token_logprobs[at],
                                   delta=LOGPROB_TOLERANCE)

    def test_echo_of_the_prompt_alone(self):
        ids = golden()[1][0]
        choice = self.complete(prompt=ids, max_tokens=0, echo=True, logprobs=1).choices[0]
        self.assertEqual(len(choice.logprobs.token_logprobs), len(ids))
        self.assertTrue(all(v <= 0 for v in choice.logprobs.token_logprobs[1:]))
        longer = self.complete(prompt=ids, max_tokens=1, echo=True, logprobs=1).choices[0]
        for a, b in zip(choice.logprobs.token_logprobs[1:], longer.logprobs.token_logprobs[1:]):
            self.assertAlmostEqual(a, b, delta=LOGPROB_TOLERANCE)

    def test_story_endings_score_as_by_transformers(self):
        """The requests of lm-evaluation-harness for its multiple choice. The file has what it got from transformers in
        float32 (tools/peers/compare_lm_eval.py)."""
        lines = (SOURCE / "tests/clients/lm_eval/endings.jsonl").read_text().splitlines()
        stories = [json.loads(line) for line in lines]
        right = 0
        for story in stories:
            contexts, prompts = [], []
            for ending in story["endings"]:
                contexts.append(len(self.ids(story["story"])) + 1)
                prompts.append([0, *self.ids(f"{story['story']} {ending}")])
            answer = self.complete(prompt=prompts, max_tokens=1, echo=True, logprobs=1, seed=1234)
            sums = []
            for choice, context in zip(answer.choices, contexts):
                sums.append(sum(choice.logprobs.token_logprobs[context:-1]))
            right += max(range(3), key=sums.__getitem__) == story["label"]
            for ours, theirs in zip(sums, story["float32"]):
                self.assertAlmostEqual(ours, theirs, delta=2 * LOGPROB_TOLERANCE, msg=story["story"])
        self.assertEqual(right, sum(max(range(3), key=s["float32"].__getitem__) == s["label"] for s in stories))

    def test_lists_of_prompts(self):
        texts = [PROMPT, "The old king called his three sons and said,", "It was a dark night"]
        alone = [self.complete(prompt=text, max_tokens=8).choices[0].text for text in texts]
        together = self.complete(prompt=texts, max_tokens=8)
        self.assertEqual([c.index for c in together.choices], [0, 1, 2])
        self.assertEqual([c.text for c in together.choices], alone)
        self.assertEqual(together.usage.completion_tokens, 24)
        ids = [prompt for prompt, _, _ in golden()[:2]]
        by_ids = self.complete(prompt=ids, max_tokens=8)
        self.assertEqual([c.text for c in by_ids.choices],
                         [self.complete(prompt=p, max_tokens=8).choices[0].text for p in ids])

    def test_n_for_each_of_several_prompts(self):
        answer = self.complete(prompt=[PROMPT, "It was a dark night"], n=2, max_tokens=8, temperature=1, seed=5)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2, 3])
        self.assertEqual(len({c.text for c in answer.choices}), 4)

    def test_seed_stop_and_bias(self):
        sampled = self.complete(max_tokens=20, temperature=1, seed=11).choices[0].text
        self.assertEqual(self.complete(max_tokens=20, temperature=1, seed=11).choices[0].text, sampled)
        greedy = self.complete(max_tokens=20).choices[0].text
        stop = greedy[10:14]
        stopped = self.complete(max_tokens=20, stop=[stop]).choices[0]
        self.assertEqual((stopped.text, stopped.finish_reason), (greedy[: greedy.index(stop)], "stop"))
        token = self.ids(" little")[0]
        self.assertEqual(self.complete(max_tokens=3, logit_bias={str(token): 100}).choices[0].text, " little" * 3)

    def test_context_overflow_ends_with_length(self):
        # The model has 2048 positions: what is asked for does not fit behind the prompt.
        answer = self.complete(prompt=[0] + [300] * 2023, max_tokens=24, extra_body={"ignore_eos": True})
        self.assertEqual((answer.usage.completion_tokens, answer.choices[0].finish_reason), (24, "length"))

    def test_unicode_survives(self):
        text = "Žluťoučký kůň 你好 🙂 \u200d\n\ttabs"
        answer = self.complete(prompt=text, max_tokens=0, echo=True)
        self.assertEqual(answer.choices[0].text, text)

    def test_tokenize_and_detokenize(self):
        text = "Once upon a time, 你好 🙂"
        status, answer = self.server.post("/tokenize", {"prompt": text})
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["count"], len(answer["tokens"]))
        self.assertEqual(answer["max_model_len"], 2048)
        self.assertEqual(answer["tokens"][0], 0)
        self.assertEqual(answer["tokens"][1:], self.ids(text))
        status, back = self.server.post("/detokenize", {"tokens": self.ids(text)})
        self.assertEqual((status, back["prompt"]), (200, text))


if __name__ == "__main__":
    run()
