"""Generated JSON schemas: random texts that the grammar of each allows (json_walk) against the `jsonschema` package, a
validator that shares nothing with this one. None may be invalid, few schemas may be refused, all by a keyword.

  json_schemas_test.py JSON_WALK
"""
import json
import random
import subprocess
import sys

from generated_schemas import any_schema, recursive_schema
from harness import skip

SCHEMAS, TEXTS = 2000, 4

try:
    import jsonschema
except ImportError:
    skip("the package jsonschema is not there (tests/clients/requirements.txt)")


def main():
    r = random.Random(11)
    schemas = [recursive_schema(r) if i % 20 == 0 else any_schema(r, 3) for i in range(SCHEMAS)]
    lines = "".join(json.dumps(s) + "\n" for s in schemas)
    answers = subprocess.run([sys.argv[1], "5", str(TEXTS)], input=lines, capture_output=True,
                             text=True, check=True).stdout.splitlines()
    assert len(answers) == SCHEMAS, f"{len(answers)} answers"
    invalid, refused, checked, without = 0, {}, 0, 0
    for schema, line in zip(schemas, answers):
        answer = json.loads(line)
        if "refused" in answer:
            keyword = answer["refused"].split('"')[1]
            refused[keyword] = refused.get(keyword, 0) + 1
            continue
        validator = jsonschema.Draft202012Validator(schema)
        without += not answer["texts"]
        for text in answer["texts"]:
            checked += 1
            instance = json.loads(text)
            if not validator.is_valid(instance):
                invalid += 1
                print(f"invalid:\n{json.dumps(schema)}\n{text}\n")
    print(f"{SCHEMAS} schemas, {checked} texts checked, {invalid} invalid; refused: {refused}; without a text: {without}")
    if invalid or sum(refused.values()) > SCHEMAS // 10 or checked < SCHEMAS * 2:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
