"""Random JSON schemas of what is supported, and a little beyond: any_schema(random.Random, depth), recursive_schema(r)."""


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
