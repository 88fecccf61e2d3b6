"""/v1/responses as the official openai client sees it."""
import json

import openai

from client_case import ClientCase, MESSAGES, run

TEXT = MESSAGES[0]["content"]


class Responses(ClientCase):
    OPTIONS = ("--template", "v3")

    def ask(self, **options):
        return self.client.responses.create(**{"model": self.model, "input": TEXT, "temperature": 0,
                                               "max_output_tokens": 16, **options})

    def test_response(self):
        response = self.ask()
        expected = self.chat(max_tokens=16)
        self.assertEqual((response.object, response.model, response.error), ("response", self.model, None))
        self.assertTrue(response.id.startswith("resp_"))
        self.assertEqual(response.output_text, expected.choices[0].message.content)
        self.assertEqual((response.status, response.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        (item,) = response.output
        self.assertEqual((item.type, item.role, item.content[0].type), ("message", "assistant", "output_text"))
        self.assertEqual((response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens),
                         (expected.usage.prompt_tokens, 16, expected.usage.prompt_tokens + 16))
        self.assertEqual(response.max_output_tokens, 16)

    def test_items_and_instructions(self):
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello."},
                    {"role": "assistant", "content": "Hello!"}, *MESSAGES]
        expected = self.chat(max_tokens=16, messages=messages).choices[0].message.content
        first = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
        second = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
                  "content": [{"type": "output_text", "text": "Hello!", "annotations": []}]}
        response = self.ask(instructions="Be kind.", input=[first, second, *MESSAGES])
        self.assertEqual(response.output_text, expected)
        self.assertEqual(response.instructions, "Be kind.")

    def test_stream_is_the_same_response(self):
        whole = self.ask()
        events = list(self.ask(stream=True))
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        kinds = [e.type for e in events]
        self.assertEqual(kinds[:4], ["response.created", "response.in_progress", "response.output_item.added",
                                     "response.content_part.added"])
        self.assertEqual(kinds[-4:], ["response.output_text.done", "response.content_part.done",
                                      "response.output_item.done", "response.incomplete"])
        self.assertEqual(set(kinds[4:-4]), {"response.output_text.delta"})
        text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        self.assertEqual((text, events[-4].text, events[-1].response.output_text), (whole.output_text,) * 3)
        self.assertEqual(events[-1].response.usage, whole.usage.model_copy(
            update={"input_tokens_details": events[-1].response.usage.input_tokens_details}))
        self.assertEqual({e.item_id for e in events if hasattr(e, "item_id")}, {events[-1].response.output[0].id})

    def test_the_clients_own_reader_of_streams(self):
        token = self.ids(" little")[0]
        options = {"model": self.model, "input": TEXT, "temperature": 0,
                   "extra_body": {"stop_token_ids": [token], "logit_bias": {str(token): 100}}}
        with self.client.responses.stream(**options) as stream:
            for _ in stream:
                pass
            final = stream.get_final_response()
        self.assertEqual(final.status, "completed")
        self.assertEqual(self.client.responses.create(**options).output_text, final.output_text)

    def test_calls_and_their_results(self):
        parameters = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
                      "additionalProperties": False}
        tool = {"type": "function", "name": "get_weather", "parameters": parameters, "strict": True}
        options = {"tools": [tool], "tool_choice": {"type": "function", "name": "get_weather"},
                   "parallel_tool_calls": False, "max_output_tokens": 200}
        response = self.ask(**options)
        (call,) = response.output
        self.assertEqual((response.status, call.type, call.name), ("completed", "function_call", "get_weather"))
        self.assertIn(json.loads(call.arguments)["city"], ["Paris", "Rome"])
        events = list(self.ask(stream=True, **options))
        self.assertEqual("".join(e.delta for e in events if e.type == "response.function_call_arguments.delta"),
                         call.arguments)
        self.assertEqual(events[-1].response.output[0].arguments, call.arguments)
        history = [*MESSAGES, call.model_dump(exclude_none=True),
                   {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}]
        self.assertTrue(self.ask(input=history, tools=[tool], max_output_tokens=4).output_text)

    def test_a_schema(self):
        schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"],
                  "additionalProperties": False}
        response = self.ask(max_output_tokens=100, text={"format": {"type": "json_schema", "name": "answer",
                                                                    "schema": schema, "strict": True}})
        self.assertIn(json.loads(response.output_text)["answer"], ["yes", "no"])

    def test_log_probabilities(self):
        response = self.ask(max_output_tokens=4, include=["message.output_text.logprobs"], top_logprobs=2)
        entries = response.output[0].content[0].logprobs
        self.assertEqual("".join(e.token for e in entries), response.output_text)
        self.assertTrue(all(len(e.top_logprobs) == 2 for e in entries))

    def test_stream_closed_early_frees_its_slot(self):
        stream = self.ask(max_output_tokens=900, stream=True)
        for _ in range(6):
            next(iter(stream))
        stream.close()
        self.server.wait_idle()

    def test_what_is_refused(self):
        cases = {"previous_response_id": "resp_1", "background": True, "truncation": "auto", "temperature": 9,
                 "max_output_tokens": 0, "conversation": "conv_1",
                 "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}
        for field, value in cases.items():
            with self.subTest(field=field):
                with self.assertRaises(openai.BadRequestError) as caught:
                    self.ask(**{field: value})
                self.assertTrue(caught.exception.param.startswith(field), caught.exception.body)
        self.assertEqual(self.ask(store=True, max_output_tokens=1).model_dump()["store"], False)


if __name__ == "__main__":
    run()
