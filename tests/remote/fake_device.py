"""A named fake of hwc.pyz, the device half: its verbs, progress lines, results, errors and exit codes, and no work.

device.json of the board tells it what it is and does:
    machine     fields that replace those of MACHINE
    checks      the doctor's checks
    hold        a verb: it waits until the board's file `go` appears
    fail        {verb: {"error", "exit_code", ...}}: printed, and ended with that code
    die         a verb: it is killed as the kernel does when memory runs out
    garbage     a verb: prints no JSON

It refuses whatever the real one would not take: an unknown verb or flag, and a folder that is no bundle.
"""

import hashlib
import json
import os
import signal
import sys
import time

MACHINE = {
    "arch": "aarch64", "python": "3.8.10", "l4t": "35.4.1", "jetpack": "5.1.2", "tensorrt": "8.5.2.2", "cuda": "11.4",
    "gpu": "Xavier", "compute_capability": "7.2", "memory_bytes": 32 << 30, "free_disk_bytes": 9 << 30,
    "power_mode": "MODE_15W",
}  # fmt: skip
FLAGS = {"doctor": {"--format"}, "verify": {"--format"}, "build": {"--format", "--store", "--builds"},
         "profile": {"--format", "--duration", "-o"}}  # fmt: skip
SWITCHES = ("--force", "--accept-differences")
ROOT = os.environ["FAKE_BOARD"]


def main(arguments):
    verb, rest = arguments[0], arguments[1:]
    if verb not in FLAGS:
        sys.exit("no verb " + verb)
    given, places = {}, []
    while rest:
        word = rest.pop(0)
        if word in SWITCHES and verb == "build":
            given[word] = True
        elif word in FLAGS[verb]:
            given[word] = rest.pop(0)
        elif word.startswith("-"):
            sys.exit("no flag " + word)
        else:
            places.append(word)
    with open(ROOT + "/calls", "a") as log:
        log.write(verb + "\n")
    told = {}
    if os.path.exists(ROOT + "/device.json"):
        with open(ROOT + "/device.json") as stream:
            told = json.load(stream)
    if verb != "doctor":
        check_bundle(places[0])
    obey(verb, told)
    result = VERBS[verb](given, told)
    print("no json" if told.get("garbage") == verb else json.dumps(result))


def check_bundle(folder):
    with open(folder + "/manifest.json") as stream:
        files = json.load(stream)["files"]
    for name, sha in files.items():
        with open(folder + "/" + name, "rb") as stream:
            if hashlib.sha256(stream.read()).hexdigest() != sha:
                sys.exit(f"'{name}' was changed")


def obey(verb, told):
    for fraction in (0.1, 0.5):
        print(f"hwc-progress {fraction} {verb}", file=sys.stderr, flush=True)
    while told.get("hold") == verb and not os.path.exists(ROOT + "/go"):
        time.sleep(0.02)
    if told.get("die") == verb:
        os.kill(os.getpid(), signal.SIGKILL)
    failure = told.get("fail", {}).get(verb)
    if failure:
        print(json.dumps(failure))
        sys.exit(failure["exit_code"])


def doctor(given, told):
    checks = told.get("checks", [{"name": "numpy", "status": "ok", "message": "1.17", "do": ""}])
    return {"machine": {**MACHINE, **told.get("machine", {})}, "checks": checks}


def build(given, told):
    with open(ROOT + "/mode") as stream:
        mode = stream.read()
    return {
        "power_mode": mode, "fingerprint": "f" * 64, "engine_dir": ROOT + "/engines/f", "reused": False, "differs": [],
        "build_seconds": 12.5, "kernels": 7, "size_bytes": 3 << 20, "state": "verified",
    }  # fmt: skip


def profile(given, told):
    samples = {
        "engine": "net", "latency_ns": [1500000] * 99 + [2500000], "warmup_ns": [], "is_stationary": True, "batch": 1,
        "machine": [["duration", given["--duration"]]], "layers": [],
    }  # fmt: skip
    if "-o" in given:
        with open(given["-o"], "w") as stream:
            json.dump({"profiles": [samples], "ratio": None}, stream)
    return {"profiles": [{"latency_ms": {"median": 1.5}}], "ratio": None}


VERBS = {"doctor": doctor, "verify": lambda given, told: {"ok": True}, "build": build, "profile": profile}
main(sys.argv[1:])
