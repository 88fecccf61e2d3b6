"""Generated JSON schemas: random texts that the grammar of each allows (json_walk) against the `jsonschema` package, a
validator that shares nothing with this one. None may be invalid, few schemas may be refused, all by a keyword.

  json_schemas_test.py JSON_WALK
"""
import json
import random
import subprocess
import sys

from harness import skip

SCHEMAS, TEXTS = 2000, 4

try:
    import jsonschema
except ImportError:
    skip("the package jsonschema is not there (tests/clients/requirements.txt)")


def number_schema(r):
    schema = {"type": r.choice(["number", "integer"])}
    if r.random() < 0.5:
        schema[r.choice(["minimum", "exclusiveMinimum"])] = r.choice([-1000, -3, 0, 0.5, 7, 99])
    if r.random() < 0.5:
        schema[r.choice(["maximum", "exclusiveMaximum"])] = r.choice([100, 101.25, 250, 10**6])
    if r.random() < 0.3:
        schema["multipleOf"] = r.choice([1, 2, 3, 5, 7, 0.5, 0.25])
    return schema


def string_schema(r):
    schema = {"type": "string"}
    if r.random() < 0.4:
        schema["minLength"] = r.randrange(0, 5)
    if r.random() < 0.4:
        schema["maxLength"] = r.randrange(5, 12)
    if r.random() < 0.4:
        schema["pattern"] = r.choice(["^[a-z]+$", "^a", "[0-9]{2}", "^(ab|cd)*$", "x.y", "^[^\"\\\\]*$"])
    return schema


def any_value(r, depth):
    kind = r.randrange(7 if depth > 0 else 5)
    if kind < 5:
        return r.choice([None, True, False, 0, 1, -2.5, 10, "", "a", "red", "a\"b", "\u00e4\U0001F600"])
    if kind == 5:
        return [any_value(r, depth - 1) for _ in range(r.randrange(3))]
    return {r.choice("abc"): any_value(r, depth - 1) for _ in range(r.randrange(3))}


def array_schema(r, depth):
    schema = {"type": "array"}
    if r.random() < 0.7:
        schema["items"] = any_schema(r, depth - 1)
    if r.random() < 0.3:
        schema["prefixItems"] = [any_schema(r, depth - 1) for _ in range(r.randrange(1, 3))]
    if r.random() < 0.5:
        schema["minItems"] = r.randrange(3)
    if r.random() < 0.5:
        schema["maxItems"] = r.randrange(3, 6)
    if r.random() < 0.15:
        schema["contains"] = any_schema(r, 0)
    return schema


def object_schema(r, depth):
    names = r.sample(["a", "b", "ab", "name", "x1", "\u00fc", "with space", "q\"q"], r.randrange(0, 5))
    schema = {"type": "object", "properties": {n: any_schema(r, depth - 1) for n in names}}
    if names and r.random() < 0.7:
        schema["required"] = r.sample(names, r.randrange(1, len(names) + 1))
    if r.random() < 0.6:
        schema["additionalProperties"] = r.choice([False, False, True, any_schema(r, depth - 1)])
    if r.random() < 0.15:
        schema["patternProperties"] = {r.choice(["^a", "[0-9]$"]): any_schema(r, depth - 1)}
    if r.random() < 0.15:
        schema["maxProperties"] = r.randrange(len(schema.get("required", [])), 6)
    if r.random() < 0.1:
        schema["minProperties"] = 1
    if r.random() < 0.1 and len(names) > 1:
        schema["dependentRequired"] = {names[0]: [names[1]]}
    return schema


def any_schema(r, depth):
    kind = r.randrange(12 if depth > 0 else 6)
    if kind < 2:
        return number_schema(r)
    if kind < 4:
        return string_schema(r)
    if kind == 4:
        return r.choice([{"type": "boolean"}, {"type": "null"}, {"const": any_value(r, 1)}, True, {"type": ["string", "null"]}])
    if kind == 5:
        return {"enum": [any_value(r, 2) for _ in range(r.randrange(1, 5))]}
    if kind < 9:
        return object_schema(r, depth)
    if kind == 9:
        return array_schema(r, depth)
    if kind == 10:
        return {"anyOf": [any_schema(r, depth - 1) for _ in range(r.randrange(1, 4))]}
    return r.choice([
        lambda: {"allOf": [any_schema(r, depth - 1), any_schema(r, depth - 1)]},
        lambda: {"oneOf": [any_schema(r, depth - 1), any_schema(r, depth - 1)]},
        lambda: {"not": any_schema(r, depth - 1)},
        lambda: {"if": any_schema(r, 0), "then": any_schema(r, depth - 1), "else": any_schema(r, 0)},
    ])()


def recursive_schema(r):
    leaf = any_schema(r, 1)
    node = {"type": "object", "properties": {"value": leaf, "next": {"$ref": "#/$defs/node"}}, "required": ["value"]}
    return {"$defs": {"node": {"anyOf": [{"type": "null"}, node]}}, "$ref": "#/$defs/node"}


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
