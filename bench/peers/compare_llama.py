#!/usr/bin/env python3
"""Compares an engine with llama.cpp on the same shape: random weights, same threads, taking turns.

Needs llama-cpp-python, numpy and gguf from PyPI. Writes GGUF files of the shape in F16 and BF16 once, then alternates
`ingot bench` with llama.cpp in a process of its own, and prints the median of each and of the ratios round by round.
Another build of llama.cpp is found where the variable LLAMA_CPP_LIB_PATH says.

    compare_llama.py --config llama-3.2-1b.json --engine ENGINE_DIR --ingot build/release/ingot --work DIR [--threads 2]
"""
import argparse
import ctypes
import functools
import json
import os
import statistics
import subprocess
import sys
import time


def write_gguf(path, config, kind):
    import gguf
    import numpy as np

    rng = np.random.default_rng(1)
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size, vocab = config.get("head_dim") or hidden // heads, config["vocab_size"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("no_vocab")

    block = rng.standard_normal(1 << 22, dtype=np.float32) * 0.02
    block = block.astype(np.float16) if kind == "f16" else (block.view(np.uint32) >> 16).astype(np.uint16)

    @functools.cache
    def values_of(rows, columns):
        return np.resize(block, (rows, columns))

    def matrix(name, rows, columns):
        values = values_of(rows, columns)
        if kind == "f16":
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, values.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)

    matrix("token_embd.weight", vocab, hidden)
    writer.add_tensor("output_norm.weight", np.ones(hidden, dtype=np.float32))
    for i in range(layers):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(hidden, dtype=np.float32))
        writer.add_tensor(f"blk.{i}.ffn_norm.weight", np.ones(hidden, dtype=np.float32))
        matrix(f"blk.{i}.attn_q.weight", heads * size, hidden)
        matrix(f"blk.{i}.attn_k.weight", kv_heads * size, hidden)
        matrix(f"blk.{i}.attn_v.weight", kv_heads * size, hidden)
        matrix(f"blk.{i}.attn_output.weight", hidden, heads * size)
        matrix(f"blk.{i}.ffn_gate.weight", inner, hidden)
        matrix(f"blk.{i}.ffn_up.weight", inner, hidden)
        matrix(f"blk.{i}.ffn_down.weight", hidden, inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def peer(path, threads, prompt, answer):
    """Runs in a process of its own: prints prefill and decode tokens per second."""
    import llama_cpp as llama

    silent = llama.llama_log_callback(lambda *_: None)  # must outlive the library's use of it
    llama.llama_log_set(silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = 2048, prompt, prompt
    params.n_threads = params.n_threads_batch = threads
    context = llama.llama_init_from_model(model, params)

    def run(tokens):
        array = (llama.llama_token * len(tokens))(*tokens)
        start = time.perf_counter()
        if llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        llama.llama_get_logits_ith(context, -1)
        return time.perf_counter() - start

    run([1] * (prompt // 4))  # touches the weights and the buffers
    llama.llama_memory_clear(llama.llama_get_memory(context), True)
    prefill = run([(i * 7919) % 32000 for i in range(prompt)])
    steps = [run([i % 32000]) for i in range(answer)]
    print(json.dumps({"prefill": prompt / prefill, "decode": 1 / statistics.median(steps),
                      "system": llama.llama_print_system_info().decode()}))


def ours(arguments):
    command = [arguments.ingot, "bench", arguments.engine, "--prompt-tokens", str(arguments.prompt), "--new-tokens",
               str(arguments.new), "--threads", str(arguments.threads), "--repetitions", "1", "-o", "json",
               "--progress", "none"]
    if arguments.cpu_mask:
        command += ["--cpu-mask", arguments.cpu_mask]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = {row["phase"]: row for row in json.loads(text)}
    return {phase: rows[phase]["tokens_per_second"] for phase in ("prefill", "decode")}


def theirs(arguments, path):
    environment = dict(os.environ)
    if not arguments.spin:
        environment["OMP_WAIT_POLICY"] = "passive"
    command = [sys.executable, __file__, "--peer", path, "--threads", str(arguments.threads),
               "--prompt", str(arguments.prompt), "--new", str(arguments.new)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(text.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config")
    parser.add_argument("--engine")
    parser.add_argument("--ingot", default="build/release/ingot")
    parser.add_argument("--work", default=".")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no further round begins after so long")
    parser.add_argument("--cpu-mask", help="for ingot bench; the peer needs a build of its own")
    parser.add_argument("--kinds", default="f16,bf16", help="the peer's dtypes; the better one counts")
    parser.add_argument("--spin", action="store_true",
                        help="the peer's threads spin between ops: faster on a quiet machine, far slower on a busy one")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments.peer, arguments.threads, arguments.prompt, arguments.new)
    config = json.load(open(arguments.config))
    kinds = arguments.kinds.split(",")
    results = {name: [] for name in ["ingot", *kinds]}
    for kind in kinds:
        path = os.path.join(arguments.work, f"peer-{kind}.gguf")
        if not os.path.exists(path):
            write_gguf(path, config, kind)
    start = time.monotonic()
    for i in range(arguments.rounds):
        if i > 0 and time.monotonic() - start > arguments.seconds:
            break
        results["ingot"].append(ours(arguments))
        for kind in kinds:
            results[kind].append(theirs(arguments, os.path.join(arguments.work, f"peer-{kind}.gguf")))
        last = [f"{name} {runs[-1]['prefill']:.1f} {runs[-1]['decode']:.2f}" for name, runs in results.items()]
        print(f"round {i + 1}:", ", ".join(last), file=sys.stderr, flush=True)
    print("llama.cpp:", results[kinds[0]][-1]["system"].strip())
    for phase in ("prefill", "decode"):
        medians = {name: statistics.median(r[phase] for r in runs) for name, runs in results.items()}
        better = max(kinds, key=lambda kind: medians[kind])
        ratios = [a[phase] / b[phase] for a, b in zip(results["ingot"], results[better])]
        peers = ", ".join(f"{kind} {medians[kind]:.1f}" for kind in kinds)
        print(f"{phase}: ingot {medians['ingot']:.1f}, llama.cpp {peers} tokens/s; "
              f"ratio to the better ({better}) {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
