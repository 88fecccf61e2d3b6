#!/usr/bin/env python3
"""EleutherAI's lm-evaluation-harness on the same model twice: by `local-completions` against fathom serve, and by
transformers. Prints the scores of both and the largest difference of a log-likelihood.

The tasks lie in tests/clients/lm_eval: multiple choice (story endings written for it), the last word of passages,
perplexity of passages, greedy continuations; the passages are the held-out text of the shipped model. Both compute in
float32 by default, so log-likelihoods must agree but for rounding; the exit code is 1 if they do not.

usage: compare_lm_eval.py [--model models/fathom-16m] [--compute f32] [--concurrent 8]
needs: lm_eval[api], torch, transformers
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
TASKS = SOURCE / "tests/clients/lm_eval"
sys.path.insert(0, str(SOURCE / "tests/clients"))
from harness import Server  # noqa: E402

# Of a log-likelihood, a sum over up to 350 tokens in float32. Where two experts' scores differ by less than float32
# resolves, engines choose differently and one token's probability moves by a percent or ten: that is allowed to one in a
# hundred.
TOLERANCE, APART = 1e-3, 0.01


def write_tasks(folder, heldout):
    passages = [json.loads(line)["text"] for line in heldout.open()]
    passages = [text[:1200].rsplit(". ", 1)[0] + "." for text in passages if len(text) > 500]
    words = [text[:400].rsplit(" ", 2)[:2] for text in passages[20:60]]
    data = {"heldout": [{"text": text} for text in passages[:20]],
            "last_words": [{"text": text, "word": " " + word} for text, word in words]}
    for name, rows in data.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "endings.jsonl").write_text((TASKS / "endings.jsonl").read_text())
    for task in TASKS.glob("*.yaml"):
        (folder / task.name).write_text(task.read_text().replace("FOLDER", str(folder)))


def in_float32(model, folder):
    """The folder that transformers reads: it would round FP8 weights to BF16 on a CPU, so it gets them times their scales."""
    if "quantization_config" not in json.loads((model / "config.json").read_text()):
        return model
    import check_transformers
    check_transformers.load(model)[0].save_pretrained(folder / "float32")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, folder / "float32")
    return folder / "float32"


def evaluate(folder, name, model, arguments):
    """{task: {"scores": {...}, "samples": [[numbers or text]]}}"""
    out = folder / name
    tasks = ",".join(sorted(path.stem for path in TASKS.glob("*.yaml")))
    command = [sys.executable, "-m", "lm_eval", "--model", model, "--model_args",
               ",".join(f"{k}={v}" for k, v in arguments.items()), "--tasks", tasks, "--include_path", str(folder),
               "--output_path", str(out), "--log_samples", "--batch_size", "4", "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
                   "HF_HOME": str(folder / "cache"), "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"lm_eval with {model} failed:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}")
    results = json.loads(next(out.rglob("results*.json")).read_text())["results"]
    answers = {}
    for task, scores in results.items():
        samples = [json.loads(line) for line in next(out.rglob(f"samples_{task}*.jsonl")).open()]
        samples.sort(key=lambda s: s["doc_id"])
        answers[task] = {
            "scores": {key.split(",")[0]: value for key, value in scores.items()
                       if isinstance(value, float) and "stderr" not in key},
            "samples": [s["filtered_resps"] for s in samples]}
    return answers


def numbers(sample):
    """All log-likelihoods in a sample's responses, which lm_eval writes as text."""
    if isinstance(sample, (list, tuple)):
        return [x for part in sample for x in numbers(part)]
    return [float(sample)] if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", str(sample)) else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=SOURCE / "models/fathom-16m", type=pathlib.Path)
    parser.add_argument("--heldout", default=SOURCE / "configs/runs/text/heldout.jsonl", type=pathlib.Path)
    parser.add_argument("--compute", default="f32", help="of fathom")
    parser.add_argument("--dtype", default="float32", help="of transformers")
    parser.add_argument("--concurrent", type=int, default=8)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="of a log-likelihood")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for lm_eval's own output")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = args.keep or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        write_tasks(folder, args.heldout)
        with Server("--compute", args.compute, "--no-log", model=args.model) as server:
            ours = evaluate(folder, "fathom", "local-completions", {
                "model": args.model.name, "base_url": f"{server.url}/v1/completions", "tokenizer": args.model,
                "tokenizer_backend": "huggingface", "tokenized_requests": True, "max_length": 1024,
                "num_concurrent": args.concurrent, "max_retries": 1})
        theirs = evaluate(folder, "transformers", "hf", {"pretrained": in_float32(args.model, folder), "dtype": args.dtype,
                                                         "max_length": 1024})
    failed, compared, beyond = False, 0, 0
    print(f"{'task':<16}{'score':<18}{'fathom serve':>14}{'transformers':>14}")
    for task in sorted(ours):
        for key, value in ours[task]["scores"].items():
            print(f"{task:<16}{key:<18}{value:>14.5f}{theirs[task]['scores'][key]:>14.5f}")
        pairs = list(zip(ours[task]["samples"], theirs[task]["samples"]))
        apart = [abs(x - y) for a, b in pairs for x, y in zip(numbers(a), numbers(b))]
        if apart:
            wrong = sum(difference > args.tolerance for difference in apart)
            print(f"{'':<16}{len(apart)} log-likelihoods: median difference {statistics.median(apart):.1e}, largest "
                  f"{max(apart):.1e}, {wrong} beyond {args.tolerance}")
            compared, beyond = compared + len(apart), beyond + wrong
        else:
            same = sum(a == b for a, b in pairs)
            print(f"{'':<16}{same} of {len(pairs)} answers are the same text")
            failed |= same < len(pairs)
    sys.exit(1 if failed or beyond > APART * compared else 0)


if __name__ == "__main__":
    main()
