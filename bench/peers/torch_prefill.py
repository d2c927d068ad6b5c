#!/usr/bin/env python3
"""What the parts of a prefill take in PyTorch: its best attention and its products, by CUDA events, medians.

    torch_prefill.py [--config llama-3.1-8b.json] [--tokens 2048]

A table of one layer, and the sum over all layers and the head: the figure that `ingot bench --prompt-tokens 2048` is
compared with. Weights and activations are bf16 and random; every product reads weights of its own layer.
"""
import argparse
import json
import statistics
import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention


def microseconds(work, rounds=30):
    for i in range(5):
        work(i)
    times = []
    for i in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(200_000)  # the launches are enqueued before the first begins
        begin.record()
        for _ in range(4):
            work(i)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / 4)
    return statistics.median(times)


def random(*shape):
    return torch.randn(*shape, dtype=torch.bfloat16, device="cuda")


def best_attention(tokens, heads, kv_heads, size):
    q, k, v = random(1, heads, tokens, size), random(1, kv_heads, tokens, size), random(1, kv_heads, tokens, size)
    times = {}
    warnings.filterwarnings("ignore")  # of backends that do not take the shape
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        for grouped in (True, False):
            keys, values = (k, v) if grouped else (x.repeat_interleave(heads // kv_heads, 1) for x in (k, v))
            try:
                with sdpa_kernel(backend):
                    times[f"{backend.name.lower()}{', grouped' if grouped else ''}"] = microseconds(
                        lambda _: scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=grouped))
            except RuntimeError:
                continue  # this backend does not take the shape
    return min(times.items(), key=lambda item: item[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="llama-3.1-8b.json")
    parser.add_argument("--tokens", type=int, default=2048)
    args = parser.parse_args()
    config = json.load(open(args.config))
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or hidden // heads
    shapes = {"qkv": ((heads + 2 * kv_heads) * size, hidden), "output": (hidden, heads * size),
              "gate and up": (2 * inner, hidden), "down": (hidden, inner)}
    total = 0
    print("| part | us a layer |\n|---|---|")
    for name, (rows, columns) in shapes.items():
        weights, x = [random(rows, columns) for _ in range(3)], random(args.tokens, columns)
        time = microseconds(lambda i: torch.mm(x, weights[i % 3].t()))
        total += time
        print(f"| {name} {rows} x {columns} | {time:.1f} |")
    backend, time = best_attention(args.tokens, heads, kv_heads, size)
    total += time
    print(f"| attention, {backend} | {time:.1f} |")
    weights, x = random(config["vocab_size"], hidden), random(1, hidden)
    head = microseconds(lambda _: torch.mm(x, weights.t()))
    print(f"{layers} layers and the head of one token: {(layers * total + head) / 1000:.2f} ms")


if __name__ == "__main__":
    main()
