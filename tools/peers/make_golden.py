#!/usr/bin/env python3
"""Goldens of a checkpoint by PyTorch: what tests/story_test.cpp holds a shipped model against.

The main model and the decoder blocks of MTP modules are Hugging Face transformers' with eager attention and experts; what
joins an MTP module to the main model is written here. All is float32 from the stored weights, FP8 weights times their scales,
and computed again in float64: greedy and draft ids have to be the same.

Writes golden.safetensors and golden.json, whose "tensors" say what each tensor means. --check compares with the ones that are
there and writes nothing.

usage: make_golden.py FOLDER [PROMPT ...] [--prompts-of OTHER/golden.json] [--tokens 64] [--out DIRECTORY]
       make_golden.py FOLDER --check
"""
import argparse
import json
import pathlib

import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers

import check_transformers
import checkpoint

# The last one is long enough for a cache to share whole blocks of it.
PROMPTS = [
    "Once upon a time there was a little girl who",
    "The old king called his three sons and said,",
    "\"Where are you going?\" asked the fox.",
    "In the morning the children ran down to the sea and",
    "The miller had two mules, one grey and one brown, and every Friday he loaded them with flour and led them over "
    "the hill to the market. The grey mule was old and knew the road so well that she could have walked it in her "
    "sleep; the brown one was young, and stopped at every gate to see what was behind it. \"Come along,\" said the "
    "miller, \"or the bakers will have gone home before we are there.\" But the brown mule had seen a bird on the "
    "wall, and would not come.\n\n\"Let him be,\" said the grey mule, who had never spoken before. The miller was so "
    "astonished that he sat down on a stone. \"You can talk!\" he cried. \"Why did you never say a word in all these "
    "years?\" \"There was nothing to say,\" she answered. \"The road was good, the sacks were not heavy, and you gave "
    "me hay in the evening. But now it is going to rain, and the flour will be spoiled if we stay here and "
    "quarrel.\"\n\nThe miller looked up. There was not a cloud in the sky; yet he took his coat and laid it over the "
    "sacks, for he thought that somebody who speaks once in twenty years",
]

TENSORS = {
    "prompt_ids.i": "int64, BOS included",
    "greedy_ids.i": "int64 ({tokens},): argmax continuation, not stopped at EOS",
    "last_logits.i": "float32 ({vocabulary},): logits at the last prompt position",
    "draft_ids.i": "int64 ({tokens},): draft_ids[j] is the MTP argmax from the main hidden state (after the final norm) that "
                   "chose greedy_ids[j] and the embedding of greedy_ids[j]; it proposes greedy_ids[j+1]. The MTP block attends "
                   "over all earlier positions; the pair (hidden i, token i+1) has rotary position i",
}


class Float64(torch.overrides.TorchFunctionMode):
    """Where the model asks for float32 (norms, router, softmax, rotary angles), it gets float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def widen(value):
            return torch.float64 if value is torch.float32 else value

        if function is torch.Tensor.float:
            function = torch.Tensor.double
        return function(*map(widen, args), **{k: widen(v) for k, v in (kwargs or {}).items()})


class Reference:
    """The main model and its first MTP module. transformers builds the module's block as one more layer, which the main model
    then leaves out."""

    def __init__(self, folder):
        config, tensors = checkpoint.read(folder)
        weights = checkpoint.to_f32(config, tensors)
        self.stored = sorted({dtype for dtype, _ in tensors.values()})
        self.bos = config["bos_token_id"]
        self.layers = config["num_hidden_layers"]
        depth = config.get("num_nextn_predict_layers") or 0
        self.join = {}  # the module's tensors that no decoder block has
        for layer in range(self.layers, self.layers + depth):
            prefix = f"model.layers.{layer}."
            own = {}
            for name in [n for n in weights if n.startswith(prefix)]:
                if name[len(prefix):].startswith(("embed_tokens.", "enorm.", "hnorm.", "eh_proj.", "shared_head.")):
                    own[name[len(prefix):]] = torch.from_numpy(weights.pop(name))
            for copy, original in (("embed_tokens.weight", "model.embed_tokens.weight"),
                                   ("shared_head.head.weight", "lm_head.weight")):
                if copy in own and not np.array_equal(own[copy].numpy(), weights[original]):
                    raise SystemExit(f"{prefix}{copy} is not a copy of {original}")
            self.join = self.join or own
        config["num_hidden_layers"] = self.layers + depth
        self.model, wrong = check_transformers.load_weights(config, weights)
        if wrong:
            raise SystemExit(f"{folder}: {wrong}")
        self.model.config.num_hidden_layers = self.layers

    def widen(self):
        """float64 from here on, also in the rotary frequencies; to be used within Float64()."""
        self.model.double()
        self.model.model.rotary_emb = type(self.model.model.rotary_emb)(self.model.config)
        self.join = {name: w.double() for name, w in self.join.items()}

    def main(self, ids):
        """Hidden states after the final norm, and logits, of all positions."""
        hidden = self.model.model(torch.tensor([ids]), use_cache=False).last_hidden_state
        return hidden, self.model.lm_head(hidden)[0]

    def norm(self, x, name):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.model.config.rms_norm_eps) * self.join[name]

    def drafts(self, ids, hidden):
        """Logits (len(ids) - 1, V) of the MTP module: row i joins the hidden state of position i with token i + 1."""
        embedding = self.model.model.embed_tokens(torch.tensor([ids[1:]]))
        both = torch.cat([self.norm(embedding, "enorm.weight"), self.norm(hidden[:, :-1], "hnorm.weight")], -1)
        x = both @ self.join["eh_proj.weight"].T
        rows = x.shape[1]
        positions = torch.arange(rows)[None]
        mask = torch.full((rows, rows), float("-inf"), dtype=x.dtype).triu(1)[None, None]
        x = self.model.model.layers[self.layers](x, attention_mask=mask, position_ids=positions, use_cache=False,
                                                 position_embeddings=self.model.model.rotary_emb(x, positions))
        return self.model.lm_head(self.norm(x, "shared_head.norm.weight"))[0]

    def continuation(self, prompt, tokens, ids=None):
        """Greedy ids after the prompt (or these), and the logits (tokens, V) behind each of them and behind each draft."""
        if ids is None:
            ids = []
            for _ in range(tokens):
                ids.append(int(self.main(prompt + ids)[1][-1].argmax()))
        hidden, logits = self.main(prompt + ids)
        begin = len(prompt) - 1
        drafts = self.drafts(prompt + ids, hidden)[begin:] if self.join else None
        return ids, logits[begin:begin + tokens], drafts


def margin(logits):
    best = logits.topk(2).values
    return float((best[:, 0] - best[:, 1]).min())


def compute(folder, texts, tokens):
    """The tensors and the JSON."""
    reference = Reference(folder)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompts = [[reference.bos] + tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    narrow = [reference.continuation(prompt, tokens) for prompt in prompts]
    with Float64():
        reference.widen()
        wide = [reference.continuation(prompt, tokens, ids) for prompt, (ids, _, _) in zip(prompts, narrow)]
    tensors, entries = {}, []
    for i, (text, prompt, (ids, logits, drafts), (_, logits64, drafts64)) in enumerate(zip(texts, prompts, narrow, wide)):
        if logits64.dtype != torch.float64:
            raise SystemExit("the second run was not in float64")
        if logits.argmax(-1).tolist() != ids or logits64.argmax(-1).tolist() != ids:
            raise SystemExit(f"prompt {i}: greedy ids hang on rounding; take another prompt")
        tensors[f"prompt_ids.{i}"] = torch.tensor(prompt)
        tensors[f"greedy_ids.{i}"] = torch.tensor(ids)
        tensors[f"last_logits.{i}"] = logits[0].clone()
        difference = float((logits - logits64).abs().max())
        margins = [margin(logits)]
        entry = {"prompt": text, "prompt_tokens": len(prompt), "greedy_text": tokenizer.decode(ids, skip_special_tokens=False)}
        if drafts is not None:
            proposed = drafts.argmax(-1)
            if not torch.equal(proposed, drafts64.argmax(-1)):
                raise SystemExit(f"prompt {i}: drafts hang on rounding; take another prompt")
            tensors[f"draft_ids.{i}"] = proposed
            entry |= {"accepted_drafts": int((proposed[:-1] == torch.tensor(ids[1:])).sum()), "drafts_checked": tokens - 1}
            difference = max(difference, float((drafts - drafts64).abs().max()))
            margins.append(margin(drafts))
        entry |= dict(zip(("smallest_margin_of_greedy_logits", "smallest_margin_of_draft_logits"), margins))
        entries.append(entry | {"max_abs_difference_to_float64": difference})
        # Another float32 engine is off by about as much on each of two logits; four times that leaves it room.
        if min(margins) < 8 * difference:
            print(f"prompt {i}: margin {min(margins):.1e} at differences of {difference:.1e}: another engine may choose "
                  "otherwise; better take another prompt")
    names = {key: text.format(tokens=tokens, vocabulary=len(tensors["last_logits.0"])) for key, text in TENSORS.items()}
    if not reference.join:
        del names["draft_ids.i"]
    stored = "fp8 weights times their scales, the rest widened" if "F8_E4M3" in reference.stored else (
        f"{', '.join(reference.stored).lower()} widened")
    made_from = (f"the checkpoint ({stored} to float32), all arithmetic in float32 (transformers {transformers.__version__}, "
                 f"torch {torch.__version__.split('+')[0]}); greedy ids and draft ids were the same in float64")
    return tensors, {"made_from": made_from, "tensors": names, "prompts": entries}


def compare(folder, tensors, description):
    """Whether the folder's goldens are these: ids and text equal, logits within 1e-4 relative L2."""
    stored = {name: np.array(values) for name, (_, values) in checkpoint.read_file(folder / "golden.safetensors").items()}
    there = json.loads((folder / "golden.json").read_text())
    wrong = sorted(set(stored) ^ set(tensors))
    worst = 0.0
    for name in set(stored) & set(tensors):
        ours, theirs = tensors[name].numpy(), stored[name]
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            wrong.append(name)
        elif name.startswith("last_logits."):
            worst = max(worst, float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)))
        elif not np.array_equal(ours, theirs):
            wrong.append(name)
    for i, (ours, theirs) in enumerate(zip(description["prompts"], there["prompts"])):
        wrong += [f"{key} of prompt {i}" for key in theirs
                  if key not in ours or isinstance(theirs[key], (str, int)) and ours[key] != theirs[key]]
    print(f"{len(tensors)} tensors, logits differ by {worst:.1e} (relative L2); not the same: {', '.join(wrong) or 'none'}")
    return not wrong and worst <= 1e-4


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("prompts", nargs="*")
    parser.add_argument("--prompts-of", type=pathlib.Path, help="a golden.json")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--out", type=pathlib.Path, help="the folder itself when absent")
    parser.add_argument("--check", action="store_true", help="compute the folder's goldens again and compare")
    args = parser.parse_args()
    texts = args.prompts or PROMPTS
    if args.check or args.prompts_of:
        source = args.folder / "golden.json" if args.check else args.prompts_of
        texts = [entry["prompt"] for entry in json.loads(source.read_text())["prompts"]]
    tensors, description = compute(args.folder, texts, args.tokens)
    for i, entry in enumerate(description["prompts"]):
        print(f"prompt {i}: " + ", ".join(f"{k} {v:.3g}" for k, v in entry.items() if not isinstance(v, str)))
    if args.check:
        raise SystemExit(0 if compare(args.folder, tensors, description) else 1)
    out = args.out or args.folder
    out.mkdir(parents=True, exist_ok=True)
    (out / "golden.safetensors").write_bytes(safetensors.torch.save(tensors))
    (out / "golden.json").write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
