"""Training steps of image classifiers in turns: samara, and PyTorch with timm's or torchvision's model, eager and compiled.

    cargo bench -p samara-benches --bench images --no-run      # prints the path of BINARY
    python images.py BINARY [--models vit-ti:8 vit-64:32 vit-b:4 resnet-18:8] [--threads 2] [--rounds 7] [--cpu]

A step is forward, backward, clipping at 1 and AdamW (fused in PyTorch), on images that stay in memory. Prints a row for each model: milliseconds of each, and
the median over rounds of PyTorch's best time divided by samara's, with the least and the largest. With --cpu the seconds of processors are compared
instead of the clock, for a machine that is shared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

STEPS = {"vit-64": 20, "vit-ti": 4, "vit-b": 2, "resnet-18": 2}


def torch_model(name):
    import timm
    import torch
    from timm.models.vision_transformer import VisionTransformer

    if name == "vit-64":
        return VisionTransformer(img_size=48, patch_size=8, embed_dim=64, depth=4, num_heads=4, num_classes=10), 48, 10
    if name == "resnet-18":
        # Norms with their running statistics, as samara has them in training.
        model = timm.create_model("resnet18")
        return model.train().apply(lambda part: part.eval() if isinstance(part, torch.nn.BatchNorm2d) else None), 224, 1000
    return timm.create_model({"vit-ti": "vit_tiny_patch16_224", "vit-b": "vit_base_patch16_224"}[name]), 224, 1000


def worker(name, batch, threads, compiled):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, size, classes = torch_model(name)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
    images, labels = torch.randn(batch, 3, size, size), torch.randint(classes, (batch,))

    def step():
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        begun, used = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            step()
        print(json.dumps({"ms": (time.perf_counter() - begun) * 1e3 / int(line), "cpu_ms": (time.process_time() - used) * 1e3 / int(line)}), flush=True)


class Peer:
    """A process that makes steps when it is asked to."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        while line.strip() != "ready":
            if not line:
                sys.exit(f"{' '.join(command)}: ended")
            line = self.process.stdout.readline()

    def cpu_ms(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")")[-1].split()
        return (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")

    def run(self, steps, cpu):
        before = self.cpu_ms()
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return (self.cpu_ms() - before) / steps if cpu else answer["ms"]

    def peak_mib(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def compare(arguments, name, batch):
    threads = str(arguments.threads)
    here = [sys.executable, __file__, "--worker", name, str(batch), threads]
    peers = {"samara": Peer([arguments.binary, name, str(batch), threads, "1", "serve"]), "eager": Peer([*here, "eager"]), "compile": Peer([*here, "compile"])}
    times = {peer: [] for peer in peers}
    for _ in range(arguments.rounds):
        for peer, process in peers.items():
            times[peer].append(process.run(STEPS[name], arguments.cpu))
    ratios = [min(e, c) / s for s, e, c in zip(times["samara"], times["eager"], times["compile"])]
    cells = [f"{statistics.median(times[peer]):.2f}" for peer in peers] + [f"{peers[peer].peak_mib():.0f}" for peer in peers]
    for process in peers.values():
        process.end()
    print(f"| {name}, {batch} images | {' | '.join(cells)} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |", flush=True)


def main():
    if sys.argv[1:2] == ["--worker"]:
        name, batch, threads, how = sys.argv[2:]
        return worker(name, int(batch), int(threads), how == "compile")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--models", nargs="+", default=["vit-ti:8", "vit-64:32", "vit-b:4", "resnet-18:8"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    unit = "CPU ms" if arguments.cpu else "ms"
    print(f"| model | samara, {unit} | eager | compiled | peak MiB: samara | eager | compiled | best of PyTorch / samara |\n|---|---|---|---|---|---|---|---|", flush=True)
    for of in arguments.models:
        name, batch = of.split(":")
        compare(arguments, name, int(batch))


if __name__ == "__main__":
    main()
