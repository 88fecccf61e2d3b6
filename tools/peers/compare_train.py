#!/usr/bin/env python3
"""Trains the same model in fathom and in PyTorch with Hugging Face's modelling code, in turn, and prints tokens a
second, peak resident memory and ratios.

Same configuration, batch and length; random weights and tokens; BF16; AdamW; all cores. Each variant of PyTorch
(train_worker.py) is a process of its own that waits while another works; fathom is started anew in every round
(`fathom bench CONFIG --train --json`). In a round the engines follow one another, so that drift of the machine meets
all of them. A figure is the median over the rounds of the median of a round. Memory is what the system saw (VmHWM): of
fathom the whole process, of PyTorch that of the steps alone (beside it that of the process, which includes compiling).

"others" is the CPU that everything else on the machine took during a measurement, in cores (the largest of the rounds),
"stolen" what the hypervisor kept back: where they are not near 0, the figures are disturbed.

usage: compare_train.py CONFIG.json --fathom build/release/fathom [--batch 4 8] [--rounds 3] [--json OUT]
"""
import argparse
import json
import os
import pathlib
import platform
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
VARIANTS = ["bf16", "bf16 compiled", "autocast", "autocast compiled", "autocast, bf16 experts, compiled"]
TICKS = os.sysconf("SC_CLK_TCK")
DISTURBED = 0.05  # cores


class EngineError(Exception):
    pass


class Load:
    """CPU seconds that all but one process took, between construction and done()."""

    def __init__(self, own_seconds):
        self.own = own_seconds
        self.wall, (self.busy, self.stolen) = time.perf_counter(), self.machine()

    @staticmethod
    def machine():
        user, nice, system, _, _, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + irq + softirq) / TICKS, steal / TICKS

    def done(self, own_seconds):
        wall, (busy, stolen) = time.perf_counter() - self.wall, self.machine()
        others = busy - self.busy - (own_seconds - self.own)
        return {"others_cores": max(0.0, others / wall), "stolen_cores": (stolen - self.stolen) / wall}


def cpu_seconds(pid):
    """Of a process and the children that it waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


class Torch:
    """One variant of PyTorch in its own process."""

    def __init__(self, variant, args, batch):
        self.variant, self.batch, self.length = variant, batch, args.length
        self.errors = tempfile.TemporaryFile("w+")
        # A compiler that is ended at the limit leaves half a library behind, which must not meet the next run.
        self.compiled = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": self.compiled.name}
        command = [sys.executable, HERE / "train_worker.py", args.config, "--variant", variant, "--batch", batch,
                   "--length", args.length, "--threads", args.threads]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=environment, start_new_session=True)
        try:
            self.about = self.answer(args.limit)
        except EngineError:
            self.close()
            raise

    def answer(self, limit):
        if not select.select([self.process.stdout], [], [], limit)[0]:
            raise EngineError(f"no answer within {limit:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().strip().splitlines()[-1:] or ["nothing said"]
            raise EngineError(f"ended with {self.process.returncode}: {last[0]}")
        return json.loads(line)

    def measure(self, args):
        load = Load(cpu_seconds(self.process.pid))
        print(json.dumps({"seconds": args.seconds, "steps": args.steps}), file=self.process.stdin, flush=True)
        answer = self.answer(args.limit)
        return {"tokens_per_s": self.batch * self.length / statistics.median(answer["steps"]), **answer,
                **load.done(cpu_seconds(self.process.pid))}

    def close(self):
        """Ends the process and the compilers that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.compiled.cleanup()


class Fathom:
    """fathom bench, once a round."""

    def __init__(self, args, batch):
        self.command = [args.fathom, "bench", args.config, "--train", "--json", "--train-batch", str(batch),
                        "--train-length", str(args.length), "--threads", str(args.threads), *args.fathom_args.split()]
        self.about = {}

    def measure(self, args):
        load = Load(0)
        process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        out = process.stdout.read()
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode != 0:
            raise EngineError(f"fathom ended with {process.returncode}")
        result = json.loads(out)
        self.about = {"commit": result["machine"]["commit"], "isa": result["machine"]["isa"]}
        peak = usage.ru_maxrss * 1024  # asked of the system; fathom prints its own reading of the same
        return {"peak": peak, "peak_ever": peak, **result["train"], **load.done(usage.ru_utime + usage.ru_stime)}

    def close(self):
        pass


def median(rounds, key):
    return statistics.median(r[key] for r in rounds)


def machine(args):
    named = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cpu = named[1] if named else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {args.threads} threads, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def print_batch(batch, length, engines, rounds):
    ours = rounds["fathom"]
    print(f"\n{f'{batch} x {length} tokens a step':<34}{'tokens/s':>9}{'(rounds)':>14}{'ratio':>8}"
          f"{'peak MB':>9}{'ratio':>7}{'process MB':>12}{'others':>8}{'stolen':>8}")
    for name, row in rounds.items():
        if not row:
            continue
        speed, peak = median(row, "tokens_per_s"), max(r["peak"] for r in row)
        speeds = [r["tokens_per_s"] for r in row]
        line = f"{name:<34}{speed:>9.1f}{f'{min(speeds):.0f}-{max(speeds):.0f}':>14}"
        if name == "fathom":
            line += f"{'':>8}{peak / 1e6:>9.0f}{'':>7}"
        else:
            line += f"{median(ours, 'tokens_per_s') / speed:>7.2f}x{peak / 1e6:>9.0f}"
            line += f"{max(r['peak'] for r in ours) / peak:>6.2f}x"
        others, stolen = max(r["others_cores"] for r in row), max(r["stolen_cores"] for r in row)
        line += f"{max(r['peak_ever'] for r in row) / 1e6:>12.0f}{others:>8.2f}{stolen:>8.2f}"
        print(line + ("  DISTURBED" if max(others, stolen) > DISTURBED else ""), flush=True)
    for name, engine in engines.items():
        if "warm_up_seconds" in engine.about:
            print(f"  {name}: built and warm after {engine.about['warm_up_seconds']:.0f} s")
    phases = ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in ours[-1]["phases"].items())
    print(f"  fathom: {median(ours, 'mfu'):.1%} of {median(ours, 'peak_tflop_s'):.3f} TFLOP/s "
          f"({ours[-1]['peak_unit']}); {phases}")


def measure_batch(batch, args):
    """{engine: [measurements]}; an engine that fails is told and left out from there on."""
    engines, failures = {"fathom": Fathom(args, batch)}, {}
    try:
        for variant in args.variants:
            try:
                engines[variant] = Torch(variant, args, batch)
            except EngineError as error:
                failures[variant] = str(error)
        rounds = {name: [] for name in engines}
        for _ in range(args.rounds):
            for name, engine in engines.items():
                if name in failures:
                    continue
                try:
                    rounds[name].append(engine.measure(args))
                except EngineError as error:
                    if name == "fathom":
                        raise SystemExit(str(error)) from error
                    failures[name] = str(error)
    finally:
        for engine in engines.values():
            engine.close()
    print_batch(batch, args.length, engines, rounds)
    for name, why in failures.items():
        print(f"  {name}: not measured, {why}", flush=True)
    return engines, rounds, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config.json")
    parser.add_argument("--fathom", default="build/release/fathom")
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 8], help="sequences of a step")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of a PyTorch measurement, at least")
    parser.add_argument("--steps", type=int, default=3, help="of a PyTorch measurement, at least")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help="of PyTorch, see train_worker.py")
    parser.add_argument("--limit", type=float, default=600, help="seconds for building and compiling")
    parser.add_argument("--fathom-args", default="", help="more options of fathom bench, e.g. '--moments bf16'")
    parser.add_argument("--json", help="write all figures here")
    args = parser.parse_args()

    print(f"{pathlib.Path(args.config).name}; {machine(args)}", flush=True)
    results, best, versions = [], {}, {}
    for batch in args.batch:
        engines, rounds, failures = measure_batch(batch, args)
        for name, engine in engines.items():
            versions.update({k: v for k, v in engine.about.items() if isinstance(v, str)})
            if rounds[name]:
                speed, peak = median(rounds[name], "tokens_per_s"), max(r["peak"] for r in rounds[name])
                engine_best = best.setdefault("fathom" if name == "fathom" else "PyTorch", [])
                engine_best.append((speed, peak, f"{name}, batch {batch}"))
        results.append({"batch": batch, "rounds": rounds, "failures": failures})
    print("\n" + ", ".join(f"{k} {v}" for k, v in versions.items()) + f", Python {platform.python_version()}")
    if "PyTorch" in best:
        (ours, our_peak, our_name), (theirs, their_peak, their_name) = max(best["fathom"]), max(best["PyTorch"])
        print(f"best of each: {our_name} {ours:.0f} tokens/s, {our_peak / 1e9:.2f} GB; PyTorch {their_name} "
              f"{theirs:.0f} tokens/s, {their_peak / 1e9:.2f} GB: {ours / theirs:.2f} times the tokens/s, "
              f"{our_peak / their_peak:.2f} times the memory")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(
            {"machine": machine(args), "versions": versions, "length": args.length, "batches": results}, indent=1))


if __name__ == "__main__":
    main()
