"""The template interpreter (jinja_walk) against Jinja2 itself: every construct of tools/make_jinja_vectors.py, random
templates made of several of them, and conversations through `fathom tokenizer render --chat-template`.

  jinja_test.py JINJA_WALK
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from harness import BINARY, MODEL, SOURCE, skip

RANDOM = 3000

try:
    import jinja2
except ImportError:
    skip("the package Jinja2 is not there (tests/clients/requirements.txt)")
sys.path.insert(0, str(SOURCE / "tools"))
import make_jinja_vectors as vectors  # noqa: E402

CHAT = """{{ bos_token }}{%- for m in messages %}
{% if m.role == 'system' -%} [{{ m.content | trim }}]
{% elif loop.last and add_generation_prompt %}>>{{ m['content'] }}
{% else %}  {{ loop.index0 ~ m.role|upper }}: {{ m.content.split('\\n')|join(' / ')|tojson }}
{%- endif %}
{% endfor %}{{ '<a>' if add_generation_prompt }}"""


def mixed(r, single):
    """Constructs within conditions, loops, macros and blocks, one behind the other."""
    wraps = ["{}", "{{% if n > {k} %}}{}{{% else %}}-{{% endif %}}", "{{% for i in range({k}) -%}}\n {} {{% endfor %}}",
             "{{% macro m(x={k}) %}}{}{{% endmacro %}}{{{{ m() }}}}", "{{% filter upper %}}{}{{% endfilter %}}",
             "{{% set v %}}{}{{%- endset %}}{{{{ v|length }}}}", "{{% with w = {k} %}}\n{}{{{{ w }}}}{{% endwith %}}\n"]
    parts = [r.choice(wraps).replace("{k}", str(r.randrange(4))) for _ in range(r.randrange(1, 4))]
    return "\n".join(p.replace("{}", r.choice(single)).replace("{{%", "{%").replace("%}}", "%}").replace("{{{{", "{{")
                     .replace("}}}}", "}}") for p in parts)


def main():
    env, r = vectors.environment(), random.Random(5)
    # Of what raises nothing alone (some of which is refused here when it is read). A name `loop` of one's own fails in
    # Jinja2 where another loop is around it, and only there.
    single = [t for t, v in vectors.cases() if "set loop" not in t and vectors.rendered(env, t, v) is not None]
    rows = [*vectors.cases(), *[(mixed(r, single), vectors.VARIABLES) for _ in range(RANDOM)]]
    lines = "".join(json.dumps({"template": t, "variables": v}) + "\n" for t, v in rows)
    ours = subprocess.run([sys.argv[1]], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = [vectors.rendered(env, t, v) for t, v in rows]
    wrong = [(t, e, o) for (t, _), e, o in zip(rows, expected, map(json.loads, ours)) if o.get("output") != e]
    for template, theirs, own in wrong[:10]:
        print(f"template {template!r}\nJinja2   {theirs!r}\nfathom   {own}\n")
    chats = [{"messages": [{"role": r.choice(["system", "user", "assistant"]), "content": r.choice(
        ["Hi", " a\nb ", "é \"x\"", "", "{{ n }}"])} for _ in range(r.randrange(1, 6))],
        "add_generation_prompt": r.random() < 0.5} for _ in range(200)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "chat.jinja"
        path.write_text(CHAT)
        out = subprocess.run([BINARY, "tokenizer", "render", MODEL, "--jsonl", "--chat-template", path], check=True,
                             input="".join(json.dumps(c) + "\n" for c in chats), capture_output=True, text=True).stdout
    bos = json.loads((MODEL / "tokenizer_config.json").read_text())["bos_token"]
    bos = bos["content"] if isinstance(bos, dict) else bos
    chat = env.from_string(CHAT)
    unlike = sum(json.loads(line)["rendered"] != chat.render(bos_token=bos, **c) for c, line in zip(chats, out.splitlines()))
    failing = sum(e is None for e in expected)
    print(f"Jinja2 {jinja2.__version__}: {len(rows)} templates, {failing} of which raise, {len(wrong)} rendered otherwise; "
          f"{len(chats)} conversations, {unlike} otherwise")
    return 1 if wrong or unlike or len(ours) != len(rows) or failing > len(rows) // 10 else 0


if __name__ == "__main__":
    sys.exit(main())
