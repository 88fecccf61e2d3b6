#!/usr/bin/env python3
"""What Jinja2 makes of templates: the goldens of src/jinja.

usage: make_jinja_vectors.py > tests/golden/jinja/constructs.jsonl

A line a case: {"template", "variables", "output"}, or "error": true where Jinja2 raises. The environment is the one in
which transformers renders chat templates. Needs Jinja2 3.1 from PyPI. As a module: environment(), cases().
"""
import datetime
import json
import sys

from jinja2 import ext, nodes
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 3, 9, 14, 5, 7)


class Generation(ext.Extension):
    """{% generation %}: its body is called as a block, as transformers does."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


VARIABLES = {
    "n": 7, "zero": 0, "f": 2.5, "neg": -3, "yes": True, "no": False, "nothing": None, "big": 18446744073709551615,
    "s": "Hello, Wörld", "empty": "", "blank": " \t x y \n", "multi": "one\ntwo\n\nthree\n", "quote": "it's \"so\" \\ \t\u0007",
    "xs": [3, 1, 2], "none_of": [], "words": ["pear", "Apple", "fig", "apple"], "mixed": [1, "a", None, True, 2.0, [1], {"k": 1}],
    "d": {"b": 1, "A": 2, "c": {"x": [10, 20]}}, "e": {}, "keyed": {"items": 5, "get": 6, "keys": 7},
    "users": [{"name": "Ann", "age": 31, "tags": ["a", "b"]}, {"name": "bob", "age": 25}, {"name": "Cid", "age": 31, "tags": []}],
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi <b>"},
                 {"role": "assistant", "content": "  Hello!  ", "tool_calls": [{"function": {"name": "f", "arguments": {"x": "é", "y": [1, 2.5, None]}}}]},
                 {"role": "tool", "content": "21 °C"}],
    "html": "<a href=\"x\">'&'</a>", "emoji": "a😀b中", "deep": [[[1, [2]]], []],
}

TEXT = [
    "plain", "a\nb\n", "a\n\n", "\n", "", "a\r\nb\rc", "{ % } # {", "{{ n }}\n", "{{ n }}\n\nx",
    "{% if yes %}\nA\n{% endif %}\nB", "  {% if yes %}  \n A \n  {% endif %}  B", "x  {% if yes %}A{% endif %}  y",
    "a {%- if yes -%} b {%- endif -%} c", "a\n {%+ if yes +%}\n b {% endif %}", " {{- n -}} \n x", "{{ n }}\n{{- n }}",
    "a {# comment #} b", "  {# comment #}\nb", "  {#- comment -#}  \n b", "a {#+ c +#}\nb", "{##}x", "{% raw %}{{ x }}{% y %}{% endraw %}\nz",
    "a\n  {% raw %} {{ x }} {% endraw %}\n  z", "a {%- raw -%}  {{ x }}  {%- endraw -%}  z", "\t{% set x = 1 %}\n{{ x }}",
    "{%if yes%}1{%endif%}", "{%- if yes %}\n\n1\n{%- endif %}", "é{{ n }}中\n", "{{n}}{{f}}{{s}}", "{{ n }}   \n   {% if yes %}\n",
    "{% if yes %}{% endif %}\n\n\nx", "x\n\n  {%- if yes %} y{% endif %}", "{{ '{{' }} {{ \"}}\" }} {{ '%}' }}", "{{ {'a': {'b': 1}}}}",
    "  {{ n }}  {% if no %}x{% endif %}  \n  ", "{% for x in xs %}\n  {{ x }}\n{% endfor %}\n", "{% for x in xs -%}\n  {{ x }}\n{%- endfor %}",
    "\u00a0{%- if yes %}\u2003x{% endif %}", "{% if yes %} \n{% endif %}", "{%+ set x = 2 -%}   {{ x }}", "{%- set x = 2 -%}\n\n\n{{ x }}\n",
]
CODE = [
    "1 + 2 * 3 - 4", "2 ** 3 ** 2", "-2 ** 2", "7 // 2, -7 // 2, 7 // -2, 7 % 3, -7 % 3, 7 % -3, -7.5 % 2", "7 / 2, 6 / 3", "1 / 0", "1 // 0", "1 % 0",
    "1e3, 1.5e-7, 1E5, 123456789012345680.0, 1e16, 1e22, 0.1 + 0.2, 100.0, 1e-5, 0.0001", "0x1F, 0b101, 0o17, 1_000", "n + f, n * f, n - f", "yes + 1, yes * 3",
    "'a' + 'b', 'a' * 3, 3 * 'ab', 'a' * 0, 'a' * -1", "'a' + 1", "1 + 'a'", "[1] + [2, 3], [1, 2] * 2, (1,) + (2,)", "[1] + (2,)", "n ~ f ~ s ~ nothing ~ yes ~ missing ~ [1]",
    "'a' 'b' \"c\"", "'\\n\\t\\\\\\'\\x41\\u00e9\\101\\z'", "1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, 1 == true, 'a' < 'b', [1, 2] < [1, 3], 1 != 2, 2 >= 2 > 1", "1 < 'a'", "none < 1", "missing < 1",
    "'el' in s, 'x' in s, 'x' not in s, 3 in xs, 9 not in xs, 'b' in d, 1 in d, '' in s", "1 in s", "1 in n", "1 in missing", "not yes, not no, not 0, not '', not xs, not none_of, not missing, not e",
    "yes and 'x', no and 'x', '' or 'y', n or 'y', none_of or d.b or 3, 1 and 2 and 0 and 4", "not yes or yes and no", "'a' if yes else 'b'", "'a' if no", "'a' if no else 'b' if no else 'c'", "('a' if yes else 'b') ~ 'c'",
    "xs[0], xs[-1], xs[1:], xs[:2], xs[::2], xs[::-1], xs[5:], xs[-2:], xs[9]", "xs[-9]", "s[0], s[-1], s[1:4], s[::-1], s[7:], emoji[1], emoji[::-1], emoji[-1]", "xs['a']", "xs[none:2]", "xs[1.0]",
    "s[9:2:-2], xs[2:0:-1], xs[10::-1], xs[-1::-2]", "d.b, d['A'], d.c.x[1], d['c']['x'][0], d.nope, d['nope']", "d.nope.more", "missing.x", "missing['x']", "missing", "missing.x is defined", "d.nope is defined, missing is defined, n is defined",
    "nothing.x", "nothing['x'] is defined", "n.x", "s.nope", "xs.nope", "xs.0, d.c.x.1", "keyed['items'], keyed['get']", "keyed.items()|list", "keyed.get('keys')", "keyed['nope'] is undefined",
    "[1, 'a', none, true, 2.0, missing]", "(1,), (), (1, 2)", "{'a': 1, 2: 'b', none: none}", "{'a': 1}.a, {'a': {'b': [1]}}['a']", "[]", "{}", "mixed", "d", "quote", "[quote, 'plain', \"it's\", emoji, '\\u200b\\x1b']", "messages",
    "[1, 2, 3,], {'a': 1,}", "{[1]: 2}", "{'a': 1, 'a': 2}", "big", "big is integer, big is number", "- n, + n, -f, - -n", "-s", "-yes", "n is odd, n is even, 6 is divisibleby 3, 6 is divisibleby(4)",
    "n is number, f is number, yes is number, s is number, n is integer, yes is integer, f is float, f is integer", "s is string, n is string, xs is string, yes is boolean, n is boolean, yes is true, 1 is true, no is false, 0 is false",
    "d is mapping, xs is mapping, xs is iterable, s is iterable, n is iterable, d is iterable, xs is sequence, s is sequence, d is sequence, n is sequence, missing is iterable, missing is sequence, (1,) is sequence",
    "nothing is none, missing is none, none is none, 0 is none, nothing is not none", "n is eq 7, n is equalto(7), n is ne 8, n is gt 6, n is ge 7, n is lt 8, n is le 6, n is greaterthan 1, n is lessthan 1, n is sameas 7, yes is sameas true",
    "1 is in [1, 2], 'a' is in 'abc', 3 is not in [1]", "s is lower, 'abc' is lower, 'ABC' is upper, '1' is upper, 'A1' is upper", "range is callable, n is callable", "n is nope", "n is defined and n > 6, n is not defined or yes",
    "range(3)|list, range(1, 4)|list, range(5, 0, -2)|list, range(0)|list", "range(100001)|list", "range(0, 10, 0)", "range()", "dict(a=1, b='x'), dict({'q': 1}, z=2), dict([['k', 'v']])",
    "s|upper, s|lower, s|title, s|capitalize, 'foo-bar (baz) x_y'|title, 'ÀÉ ß ñ'|upper, 'ЖЯ'|lower, 'ΣΑ'|lower, 'ǅ'|length", "blank|trim, '..a.b.'|trim('.'), 5|trim, missing|trim, nothing|trim", "s|length, emoji|length, xs|length, d|length, empty|length, missing|length, xs|count", "n|length", "nothing|length",
    "missing|default('x'), empty|default('x'), empty|default('x', true), none|default('x'), nothing|default('x', boolean=true), d.nope|d(1), missing|default", "xs|join, xs|join(', '), words|join('-'), mixed|join('|'), missing|join, none_of|join('x'), users|join(', ', attribute='name'), 'abc'|join('.')", "5|join", "users|map(attribute='tags.0')|list", "users|map(attribute='tags', default='-')|list", "users|map(attribute='nope', default='-')|list",
    "xs|first, xs|last, none_of|first, none_of|last, s|first, s|last, missing|first, d|first", "xs|list, s|list, d|list, missing|list, (1, 2)|list", "5|list", "d|items|list, missing|items|list", "xs|items|list",
    "d|dictsort, d|dictsort(true), d|dictsort(reverse=true)", "{'x': 3, 'y': 1}|dictsort(by='value')", "{'x': 3, 'y': 1}|dictsort(false, 'value')", "d|dictsort(by='nope')", "5|string ~ '', nothing|string, xs|string, missing|string, 1.0|string",
    "'42'|int, '4.7'|int, 'x'|int, 'x'|int(5), 4.9|int, -4.9|int, '0x1A'|int(base=16), yes|int, ''|int, ' 7 '|int, '1_000'|int, nothing|int, '1e3'|int, xs|int", "missing|int", "'4.5'|float, 'x'|float, 'x'|float(1.5), 3|float, '1e3'|float, ' 2 '|float, nothing|float", "neg|abs, -2.5|abs, 3|abs, (0 - 4)|abs, 's'|length",
    "2.5|round, 3.5|round, 2.675|round(2), 2.4|round, 7|round, 2.1|round(0, 'ceil'), 2.9|round(method='floor'), 2.345|round(1, 'ceil'), 1234.5|round(-2), -2.5|round", "'x'|round", "'x'|abs",
    "words|sort, xs|sort, xs|sort(reverse=true), words|sort(case_sensitive=true), users|sort(attribute='age')|map(attribute='name')|list, users|sort(attribute='age,name')|map(attribute='name')|join", "mixed|sort", "words|unique|list, xs|unique|list, [1, 1.0, true, 2]|unique|list, words|unique(case_sensitive=true)|list, users|unique(attribute='age')|map(attribute='name')|list",
    "xs|reverse|list, s|reverse, emoji|reverse", "s|replace('l', 'L'), s|replace('l', 'L', 1), s|replace('', '-'), 'aaa'|replace('a', 'b', 2), 123|replace('2', 'x'), 'a'|replace('a', 5)", "multi|indent, multi|indent(2), multi|indent(2, true), multi|indent(2, blank=true), multi|indent('> '), ''|indent, 'a'|indent(first=true)",
    "html|e", "html|escape", "html|safe", "users|map(attribute='name')|list, users|map(attribute='tags')|list, users|map(attribute='age', default='-')|list, words|map('upper')|list, words|map('replace', 'p', 'q')|join(' '), users|map(attribute='tags')|list|length, xs|map('string')|list", "xs|map('nope')|list",
    "users|selectattr('tags')|map(attribute='name')|list, users|selectattr('age', 'equalto', 31)|list|length, users|rejectattr('age', '>', 30)|map(attribute='name')|list, users|selectattr('tags', 'defined')|map(attribute='name')|list, users|rejectattr('tags')|map(attribute='name')|join", "xs|select('odd')|list, xs|reject('odd')|list, mixed|select|list, xs|select('>', 1)|list, mixed|select('string')|list",
    "messages|selectattr('role', 'eq', 'user')|list|length, (messages|selectattr('role', 'in', ['user', 'tool'])|list)[1].content, 'yes' if messages|selectattr('role', 'eq', 'nobody') else 'no'", "xs|sum, users|sum('age'), users|sum(attribute='age'), [1.5, 2]|sum, []|sum, xs|sum(start=10)", "xs|min, xs|max, words|min, words|max, []|max, users|max(attribute='age')|length", "'a b  c_d'|wordcount, d|attr('b') is defined",
    "xs|tojson, d|tojson, mixed|tojson, s|tojson, quote|tojson, emoji|tojson, nothing|tojson, yes|tojson, f|tojson, big|tojson, html|tojson, (1, 2)|tojson", "d|tojson(indent=2), none_of|tojson(indent=2), e|tojson(indent=4), deep|tojson(indent=1), messages|tojson(indent=4)", "emoji|tojson(ensure_ascii=true), d|tojson(sort_keys=true), d|tojson(separators=(',', ':')), {1: 2, none: 3, true: 4, 1.5: 5}|tojson, d|tojson(indent='\t'), d|tojson(indent=0)", "missing|tojson", "range|tojson", "xs|reverse|tojson", "d.items()|tojson",
    "s.upper(), s.lower(), s.title(), s.capitalize(), 'it''s'.title(), s.split(), s.split(', '), 'a,b,c'.split(',', 1), 'a,b,c'.rsplit(',', 1), ' a  b '.split(), ' a b c '.split(none, 1), ' a b c '.rsplit(none, 1), ''.split(), ''.split(','), 'a'.split(maxsplit=0)", "s.split('')",
    "blank.strip(), blank.lstrip(), blank.rstrip(), 'xxaxx'.strip('x'), 'abcba'.lstrip('ab'), 'abcba'.rstrip('ab'), '\u2003é\u00a0'.strip()", "s.startswith('He'), s.endswith('ld'), s.startswith(('x', 'H')), s.endswith('')", "s.replace('l', 'L'), s.replace('l', 'L', 1), s.replace('', '.')", "s.find('o'), s.find('z'), s.rfind('o'), s.count('l'), s.index('o'), emoji.find('b'), 'aaa'.count('aa'), 'ab'.count('')", "s.index('z')",
    "', '.join(words), ''.join([]), '-'.join('abc')", "','.join(xs)", "multi.splitlines(), multi.splitlines(true), 'a\\r\\nb\\x0bc'.splitlines()", "'a-b-c'.partition('-'), 'a-b-c'.rpartition('-'), 'abc'.partition('-'), 'abc'.rpartition('-')", "'ab'.center(5, '*'), 'ab'.center(7), 'abc'.center(6, '.'), 'ab'.ljust(4) ~ '|', 'ab'.rjust(4, '0')", "'12'.isdigit(), 'a1'.isalnum(), 'ab'.isalpha(), ' '.isspace(), ''.isdigit(), 'AB'.isupper(), 'ab'.islower()", "'prefix'.removeprefix('pre'), 'suffix'.removesuffix('fix'), 'x'.removeprefix('y')",
    "d.keys()|list, d.values()|list, d.items()|list, d.get('b'), d.get('z'), d.get('z', 0), d.keys()|length, 'b' in d.keys()", "d.items()[0] is defined", "d.copy().b, xs.copy(), xs.index(2), xs.count(3), (1, 2, 1).count(1)", "xs.index(9)", "xs.append(4)", "d.update({'z': 1})", "d.pop('b')", "s.nope()", "missing()", "n()", "d.nope()", "''.__class__ is defined",
    "(xs|reverse|list)[0], [xs|reverse|list, xs]|first", "'%s' % 1 if no else 'x'", "namespace(a=1).a, namespace({'b': 2}).b, namespace(a=1).nope is defined", "strftime_now('%Y-%m-%d %H:%M:%S'), strftime_now('%d %b %Y'), strftime_now('%%')", "raise_exception('no: ' ~ n)", "loop is defined, caller is defined", "{'a': 1} == {'a': 1.0}, [1] == [true], (1,) == [1], none == missing, missing == missing2, 'a' == 1, xs == xs[:]", "xs is eq xs, d == d.copy()", "1 if xs|select('gt', 5)|list else 2", "'x' * 3 ~ 'y' + 'z'", "1 ~ 2 + 3", "1 + 2 ~ 3", "not 1 == 2", "(1 == 2) == no", "3 - -2", "-n|abs", "2 * 3|string", "xs|length > 2 and s|length > 3", "s|upper|lower|title", "(s ~ s)|length", "s.split(',')[0]|upper", "words|map('first')|join|upper",
    "{}.get('x', {}).get('y') is none", "messages[0].role, messages[0]['content'], messages[-1].role, messages[1:]|length, messages[2].tool_calls[0].function.arguments|tojson", "'tool_calls' in messages[2], 'tool_calls' in messages[0], messages[0].tool_calls is defined, messages[0].get('tool_calls') is none",
    "1 +", "(1", "[1, 2", "{'a' 1}", "'abc", "a b", "1 2", "x|nope", "@", "f(a=1, 2)", "not", "1 if", "xs[1:2:3:4]", "", "x.", "in", "is", "None, True, False", "none is none is none", "*xs", "{{ 1", "007", "'\\u12'",
]
BLOCKS = [
    "{% for x in xs %}{{ x }},{% endfor %}", "{% for x in xs %}{{ loop.index }}/{{ loop.length }}:{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.index0 }}{{ loop.depth }};{% endfor %}", "{% for x in none_of %}a{% else %}empty{% endfor %}", "{% for x in missing %}a{% else %}empty{% endfor %}", "{% for x in n %}a{% endfor %}", "{% for x in nothing %}a{% endfor %}", "{% for c in emoji %}[{{ c }}]{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}", "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for x in xs if x > 1 %}{{ loop.index }}{{ x }}{{ loop.length }}{% else %}none{% endfor %}", "{% for x in xs if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in xs %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{% endfor %}", "{% for x in xs %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}", "{% for x in xs %}{% for y in xs %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}", "{% for x in xs %}{% set outer = loop %}{% for y in [1] %}{{ outer.index }}{% endfor %}{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in xs %}{% for y in xs %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %};{% endfor %}", "{% for x in xs %}{% break %}{% else %}e{% endfor %}x", "{% break %}", "{% for x in xs %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{{ x }}", "{% set x = 1 %}{% for i in xs %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "{% for i in xs %}{% set y = i %}{% endfor %}{{ y is defined }}", "{% if yes %}{% set x = 1 %}{% endif %}{{ x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1, 2, 3] %}", "{% set x = 1, 2 %}{{ x }}", "{% set n = n + 1 %}{{ n }}", "{% set x %}a{{ n }}b{% endset %}{{ x|length }}{{ x }}", "{% set x | upper | trim %} a{{ s }} {% endset %}{{ x }}", "{% set x = missing %}{{ x is defined }}",
    "{% set ns = namespace(x=0, y='a') %}{% for i in xs %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}", "{% set ns = namespace() %}{% set ns.a %}b{{ n }}{% endset %}{{ ns.a }}{{ ns.nope is defined }}", "{% set d.x = 1 %}", "{% set q = {} %}{% set q.x = 1 %}", "{% set ns = namespace(l=[]) %}{% for i in xs %}{% set ns.l = ns.l + [i * 2] %}{% endfor %}{{ ns.l }}", "{% set ns = namespace(a=1) %}{% set ns.a, b = 5, 6 %}{{ ns.a }}{{ b }}", "{% set ns = namespace(a=1) %}{{ ns['a'] }}{{ ns.a }}",
    "{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% else %}c{% endif %}", "{% if missing %}a{% endif %}", "{% if xs and not none_of %}a{% endif %}", "{% if n is defined and n is number %}a{% endif %}", "{% if yes %}", "{% endif %}", "{% else %}", "{% nope %}", "{% if %}x{% endif %}", "{% for x in %}{% endfor %}", "{% for in xs %}{% endfor %}", "{% set = 1 %}", "{% set x %}", "{% if yes %}a{% endfor %}", "{% set true = 1 %}", "{% set loop = 1 %}{% for x in xs %}{{ loop.index }}{% endfor %}",
    "{% macro m(a, b=2) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}{{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(c=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(x) %}{{ x }}{% if x > 0 %}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}", "{% macro m(x) %}{{ m(x + 1) }}{% endmacro %}{{ m(1) }}", "{% macro m() %}{{ n }}{{ later }}{% endmacro %}{% set later = 5 %}{{ m() }}", "{% macro m() %}{% set n = 99 %}{{ n }}{% endmacro %}{{ m() }}{{ n }}",
    "{% for x in xs %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}{{ caller() }}!{% endmacro %}{% call m() %}hi {{ n }}{% endcall %}", "{% macro m(l) %}{% for x in l %}{{ caller(x) }};{% endfor %}{% endmacro %}{% call(u) m(xs) %}<{{ u }}>{% endcall %}", "{% macro m(a=n) %}{{ a }}{% endmacro %}{{ m() }}", "{{ m() }}{% macro m() %}x{% endmacro %}", "{% macro m() %}\n  a\n{% endmacro %}\n{{ m() }}{{ m()|trim }}|", "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m.name }}", "{% macro m(a, b='x') %}{% endmacro %}{{ m(1)|length }}", "{% set f = 1 %}{% macro g() %}{{ f }}{% endmacro %}{% set f = 2 %}{{ g() }}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aa{% endfilter %}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{% endwith %}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}", "{% generation %}a{{ n }}{% endgeneration %}b", "{% for m in messages %}{% generation %}\n{{ m.role }}\n{% endgeneration %}\n{% endfor %}", "{% generation %}{% set q = 1 %}{% endgeneration %}{{ q is defined }}",
    "{%- for message in messages -%}\n  {%- if message.role == 'user' -%}\n    U:{{ message.content }}\n  {%- elif message['role'] == 'assistant' -%}\n    A:{{ message.content | trim }}{% if message.tool_calls %}{% for t in message.tool_calls %}<{{ t.function.name }}>{{ t.function.arguments | tojson }}{% endfor %}{% endif %}\n  {%- else -%}\n    {{ message.role|upper }}:{{ message['content'] }}\n  {%- endif -%}\n{%- endfor -%}\n", "{%- if messages[0]['role'] == 'system' %}\n{%- set system = messages[0]['content'] %}\n{%- set rest = messages[1:] %}\n{%- else %}\n{%- set system = '' %}\n{%- endif %}\n{{- system }}\n{%- for m in rest %}\n{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\n{{- raise_exception('roles must alternate') }}\n{%- endif %}\n{%- endfor %}",
    "{% for t in [{'name': 'f', 'parameters': {'type': 'object', 'properties': {'x': {'type': 'string'}}}}] %}{{ t | tojson(indent=4) }}\n{% endfor %}", "{% for tool in tools or [] %}x{% endfor %}{% if tools is not defined %}no tools{% endif %}", "{% set gen = xs|select('gt', 1) %}{{ gen|list }}{{ gen|list }}", "{% set gen = xs|map('string') %}{{ gen|first }}{{ gen|join(',') }}", "{% set v = d.items() %}{{ v|list|length }}{{ v|list|length }}{{ v|length }}", "{{ xs|reverse|length }}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% do x %}", "{{ super() }}", 
    "{%- set last = messages|last -%}{{ last.role }}{{ (messages|first).role }}", "{% for x in xs|sort %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in 'ab', 'cd' %}{{ x }}{% endfor %}", "{% for x in xs %}{{ x if x > 1 else '-' }}{% endfor %}", "{% for x in (xs if yes else []) %}{{ x }}{% endfor %}", "{% set x = 'a' if no %}[{{ x }}]", "{% set x = [] %}{% for i in xs %}{% set x = x + [i] %}{% endfor %}{{ x }}",
]


def cases():
    """(template, variables) of every construct."""
    for template in [*TEXT, *["{{ " + code + " }}" for code in CODE], *BLOCKS]:
        yield template, VARIABLES


def rendered(env, template, variables):
    """The output, or None where Jinja2 raises."""
    try:
        return env.from_string(template).render(**variables)
    except Exception:  # noqa: BLE001 - what kind it is differs, that it is one does not
        return None


def main():
    env = environment()
    print(json.dumps({"variables": VARIABLES, "now": "2025-03-09 14:05:07"}, ensure_ascii=False))
    for template, variables in cases():
        output = rendered(env, template, variables)
        row = {"template": template} | ({"error": True} if output is None else {"output": output})
        print(json.dumps(row, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
