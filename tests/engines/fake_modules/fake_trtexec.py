"""A stand-in for trtexec, `fake_trtexec.py VERSION FLAGS...`: has the flags that tensorrt_api.toml gives that version.

It refuses any other flag in trtexec's words, builds nothing, and writes what it was asked into the plan. With
HWC_FAKE_TENSORRT=crash it ends by signal 6, with =none it fails with an error.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_strict import is_in, read_table, version_tuple  # noqa: E402

_PLAIN = {"explicitBatch", "fp16", "bf16", "int8", "best", "stronglyTyped", "allowGPUFallback", "versionCompatible",
          "excludeLeanRuntime", "refit", "stripWeights", "noTF32", "verbose", "skipInference", "buildOnly",
          "help"}  # fmt: skip


def main(version, arguments):
    """What trtexec would do; its exit code."""
    table = read_table()
    known = [name for name in table if "." not in name and name[0].islower() and is_in(name, version, table)]
    major, minor, patch = version_tuple(version)
    number = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
    if arguments == ["--help"]:
        print("=== Model Options ===")
        for name in known:
            print(f"  --{name}{'' if name in _PLAIN else '=VALUE'}   says what it does")
        return 0
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # trtexec {' '.join(arguments)}", flush=True)
    given = {}
    for argument in arguments:
        name, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or name not in known or bool(equals) == (name in _PLAIN):
            print(f"[01/02/2026-10:11:12] [E] Unknown option: {argument}")
            return failed(number)
        given[name] = value
    mode = os.environ.get("HWC_FAKE_TENSORRT", "")
    if mode == "crash":
        os.abort()
    if mode == "none" or not os.path.isfile(given["onnx"]):
        print("[01/02/2026-10:11:12] [E] Engine could not be created from network")
        return failed(number)
    half = "stronglyTyped" in given or "fp16" in given or major >= 11
    word = "Int8" if "int8" in given else "Half" if half else "Float"
    form = {"Half": "Channel major FP16 format", "Int8": "Row major Int8 format"}.get(word, "Row major Float format")
    tensors = [{"Name": "x", "Location": "Device", "Format/Datatype": form}]
    layer = {"Name": "stem/conv + stem/relu", "LayerType": "CaskConvolution", "Inputs": tensors, "Outputs": tensors,
             "TacticName": "sm72_xmma_fprop"}  # fmt: skip
    with open(given["exportLayerInfo"], "w") as file:
        json.dump({"Layers": [layer], "Bindings": ["x", "pooled"]}, file)
    if "timingCacheFile" in given:
        old = os.path.isfile(given["timingCacheFile"])
        with open(given["timingCacheFile"], "w") as file:
            file.write(f"FAKE-TIMING {version}{' again' if old else ''}")
    with open(given["saveEngine"], "w") as file:
        json.dump({"given": given}, file)
    print("[01/02/2026-10:11:12] [I] Engine built in 1.5 sec.")
    if not {"skipInference", "buildOnly"} & set(given):
        path = os.environ.get("HWC_FAKE_TACTICS", "")
        with open(path) as file:
            first, *rest = file.read().split()
        with open(path, "w") as file:
            file.write("\n".join(rest))
        shown = f"min = 0.1 ms, max = 9 ms, mean = 2 ms, median = {first} ms, percentile(90%) = 3 ms"
        print(f"[01/02/2026-10:11:12] [I] GPU Compute Time: {shown}")
    print(f"&&&& PASSED TensorRT.trtexec [TensorRT v{number}] # trtexec")
    return 0


def failed(number):
    print(f"&&&& FAILED TensorRT.trtexec [TensorRT v{number}] # trtexec")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
