#!/usr/bin/env python3
"""Writes a checkpoint with random normal weights of the exact shapes of a configuration, as Hugging Face publishes one.

    write_checkpoint.py CONFIG.json DIR [--dtype bfloat16] [--shard 5GB]

For builds from files where the real weights cannot be had. Needs transformers; draws on the GPU where there is one.
"""
import argparse
import pathlib
import shutil
import tempfile

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--shard", default="5GB")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:  # transformers reads a directory, not a file
        shutil.copy(arguments.config, pathlib.Path(directory) / "config.json")
        config = AutoConfig.from_pretrained(directory)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, arguments.dtype))
    model.save_pretrained(arguments.directory, max_shard_size=arguments.shard)


if __name__ == "__main__":
    main()
