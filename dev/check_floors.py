#!/usr/bin/env python3
"""Checks the floors of docs/architecture.md: which folder of src/ may include which. Data first, check below."""
import pathlib
import re
import sys

SHARED = "base tensor"
FLOORS = {
    "base": "",
    "tensor": "base",
    "text": "base",
    "ops": SHARED,
    "plan": SHARED,
    "device": SHARED,
    "checkpoint": SHARED,
    "kernels": SHARED + " ops plan device",
    "ir": SHARED + " ops",
    "weights": SHARED + " ops plan device kernels checkpoint",
    "models": SHARED + " ops ir checkpoint",
    "quantize": SHARED + " ops ir checkpoint",
    "passes": SHARED + " ops ir",
    "tactics": SHARED + " ops plan device kernels",
    "runtime": SHARED + " plan device kernels weights",
    "tune": SHARED + " ops plan device kernels tactics",
    "generate": SHARED + " text device plan runtime",
    "build": SHARED + " text ops ir models quantize passes tactics tune plan device kernels weights checkpoint",
}
BUILDER = "build " + FLOORS["build"]
FLOORS["calibrate"] = BUILDER + " runtime generate"
FLOORS["inspect"] = BUILDER + " runtime generate"
FLOORS["api"] = FLOORS["inspect"] + " inspect calibrate"

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    wrong = []
    for path in sorted((root / "src").rglob("*")):
        if path.suffix not in {".h", ".cpp", ".cuh", ".inc"}:
            continue
        folder = path.relative_to(root / "src").parts[0]
        if folder not in FLOORS:
            wrong.append(f"{path.relative_to(root)}: the folder {folder} has no row in dev/check_floors.py")
            continue
        allowed = set(FLOORS[folder].split()) | {folder, "ingot"}
        for name in INCLUDE.findall(path.read_text()):
            if path.suffix == ".cuh":
                # The run-time compiler reads device code alone: names are relative to tactics/cuda.
                if not name.endswith(".cuh") or not (root / "src/tactics/cuda" / name).exists():
                    wrong.append(f"{path.relative_to(root)}: device code may not include {name}")
                continue
            if "/" not in name:
                wrong.append(f"{path.relative_to(root)}: includes \"{name}\" without its folder")
            elif name.split("/")[0] not in allowed:
                wrong.append(f"{path.relative_to(root)}: {folder} may not include {name}")
    for line in wrong:
        print(line)
    print(f"floors: {len(wrong)} wrong includes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
