#!/usr/bin/env python3
"""Whether Hugging Face transformers reads a checkpoint that fathom wrote, and computes the same from it.

Loads the folder there (float32, eager attention and experts), refuses weights that are missing or left over (but those of
MTP layers, which transformers does not build), and compares the logits of all positions with those of `fathom trace`. FP8
weights are multiplied by their scales before transformers gets them.

usage: check_transformers.py FOLDER --fathom build/release/fathom [--ids 5,17,99 | --tokens 128]
"""
import argparse
import pathlib
import random
import re
import subprocess
import tempfile

import numpy as np
import torch
import transformers

import checkpoint


def load(folder):
    """The model, and the names that do not fit."""
    config, tensors = checkpoint.read(folder)
    if "quantization_config" in config:  # transformers itself would round FP8 weights to BF16 on a CPU
        return load_weights(config, checkpoint.to_f32(config, tensors))
    return _load(transformers.AutoModelForCausalLM, folder)


def load_weights(config, weights):
    """The same of a config.json and {name: float32 array}."""
    options = {k: v for k, v in config.items() if k not in ("model_type", "quantization_config")}
    return _load(getattr(transformers, config["architectures"][0]), None,
                 config=transformers.AutoConfig.for_model(config["model_type"], **options),
                 state_dict={name: torch.from_numpy(values) for name, values in weights.items()})


def _load(model_class, folder, **options):
    transformers.utils.logging.disable_progress_bar()
    options |= {"dtype": torch.float32, "attn_implementation": "eager", "output_loading_info": True}
    try:
        model, info = model_class.from_pretrained(folder, experts_implementation="eager", **options)
    except (TypeError, ValueError):  # versions that know one way of running the experts
        model, info = model_class.from_pretrained(folder, **options)
    layers = model.config.num_hidden_layers

    def is_mtp(name):
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        return bool(layer) and int(layer[1]) >= layers

    wrong = {kind: [n for n in map(str, info[kind]) if not is_mtp(n)]
             for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    return model.eval(), {kind: names for kind, names in wrong.items() if names}


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--fathom", default="build/release/fathom")
    parser.add_argument("--ids", help="token ids, with commas; without it random ones")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative L2 of the worst position")
    args = parser.parse_args()
    model, wrong = load(args.folder)
    for kind, names in wrong.items():
        print(f"{kind}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''} ({len(names)})")
    random.seed(7)
    ids = [int(i) for i in args.ids.split(",")] if args.ids else [
        random.randrange(model.config.vocab_size) for _ in range(args.tokens)]
    with tempfile.TemporaryDirectory() as temporary:
        trace = pathlib.Path(temporary) / "trace.safetensors"
        subprocess.run([args.fathom, "trace", args.folder, "--compute", "f32", "--ids", ",".join(map(str, ids)),
                        "--out", trace], check=True)
        ours = np.array(checkpoint.read_file(trace)["logits"][1])
    theirs = model(torch.tensor([ids])).logits[0].float().numpy()
    rows = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    print(f"{type(model).__name__} (transformers {transformers.__version__}), {len(ids)} positions: relative L2 "
          f"{np.linalg.norm(ours - theirs) / np.linalg.norm(theirs):.2e}, worst position {rows.max():.2e}, "
          f"largest difference {np.abs(ours - theirs).max():.2e} of logits up to {np.abs(theirs).max():.2f}, "
          f"same first choice {np.mean(ours.argmax(1) == theirs.argmax(1)):.1%}")
    raise SystemExit(1 if wrong or not rows.max() <= args.tolerance else 0)


if __name__ == "__main__":
    main()
