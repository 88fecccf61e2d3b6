"""Generated JSON schemas asked of a running server: sampled at temperature 1, with drafts of the MTP module, several at once,
streamed and whole, behind a prompt and in a chat. Every answer that is complete must be valid for the `jsonschema` package.

  served_schemas_test.py [SCHEMAS [SEED]]
"""
import asyncio
import collections
import json
import random
import sys

from generated_schemas import any_schema, recursive_schema
from harness import Server, skip
from http_stream import Target
from replies import read_reply

try:
    import jsonschema
except ImportError:
    skip("the package jsonschema is not there (tests/clients/requirements.txt)")

CLIENTS, TOKENS = 16, 400


async def ask(target, number, schema, count, invalid):
    body = {"temperature": 1, "seed": number, "max_tokens": TOKENS, "stream": number % 2 == 0,
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}
    api, path, said = (("chat", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Some JSON, please."}]}),
                       ("completions", "/v1/completions", {"prompt": "For example:\n"}))[number % 3 == 0]
    answer = await target.request("POST", path, {**body, **said})
    if answer.status == 400 and b"invalid_grammar" in answer.body:
        count["nothing fulfils it" if b"nothing fulfils it" in answer.body else "refused"] += 1
        return
    assert answer.status == 200, (answer.status, answer.body, schema)
    reply = read_reply(api, answer)
    assert reply.complete and not reply.error, (reply.error, schema)
    (choice,) = reply.choices
    if choice.finish != "stop":
        count["cut off"] += 1
    else:
        count["checked"] += 1
        try:
            valid = jsonschema.Draft202012Validator(schema).is_valid(json.loads(choice.text))
        except ValueError:
            valid = False
        if not valid:
            invalid.append((schema, choice.text))


async def ask_all(url, schemas, count, invalid):
    target, waiting = Target(url), list(enumerate(schemas))

    async def client():
        while waiting:
            await ask(target, *waiting.pop(), count, invalid)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def main():
    number, seed = (int(a) for a in (sys.argv[1:] + ["100", "12"][len(sys.argv) - 1:]))
    r = random.Random(seed)
    schemas = [recursive_schema(r) if i % 20 == 0 else any_schema(r, 3) for i in range(number)]
    count, invalid = collections.Counter(), []
    with Server("--no-log", "--template", "v3", "--drafts", "2", "--max-running", CLIENTS) as server:
        asyncio.run(ask_all(server.url, schemas, count, invalid))
        state = server.wait_idle()
    for schema, text in invalid:
        print(f"invalid:\n{json.dumps(schema)}\n{text}\n")
    kept, drafted = (state[f"fathom:spec_decode_num_{name}_tokens_total"] for name in ("accepted", "draft"))
    print(f"{number} schemas: {dict(count)}, {len(invalid)} invalid; drafts kept {kept:.0f} of {drafted:.0f}")
    few = count["checked"] < number // 2 or count["refused"] + count["nothing fulfils it"] > number // 10
    return 1 if invalid or few or kept == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
