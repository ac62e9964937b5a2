"""Speed and memory of `redepth process`: frames per second over the bare network's, memory over a long bag.

    ./dev run python bench/offline.py [--frames 150] [--keyframes 8]
    ./dev run python bench/offline.py --frames 16 --formats "" --keyframes 16 --rounds 3   # workers only
    ./dev run python bench/offline.py --frames 2200 --input-size 70   # 2 GB: memory

Each line processes the same bag of rendered images, written here first. "share" is frames per second
over those of the bare network on the same images, decoded already. "by CPU time" is the same for a machine
with cores to spare: the network's time over that of the slowest of the three threads, in processor time,
which other work on the machine does not change (one torch thread: OMP_NUM_THREADS=1). With --keyframes,
one and two workers that refine each frame are compared in turns, with one thread each: by time, and by the
processor time of the busiest process, the limit on a machine with cores to spare. Two workers are three
processes, because fast depth stays in that of the command: the second ratio may exceed 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "test" / "recordings"))
from bags import SECOND, make_image, make_info, write_bag

from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.models.depth_anything import DepthAnything

RATE = 30


def make_messages(frames: int, width: int, height: int) -> Iterator[tuple[str, int, object]]:
    """Yield images with their calibration."""
    import cv2

    room = next(one for one in load_rendered_images() if one.kind == "room").image
    image = cv2.resize(room, (width, height), interpolation=cv2.INTER_CUBIC)
    for number in range(frames):
        stamp = SECOND + number * SECOND // RATE
        yield "/camera/image", stamp, make_image(np.roll(image, number, axis=1), "rgb8", stamp)
        yield "/camera/camera_info", stamp, make_info(height, width, stamp, focal=0.8 * width)


def measure_network(width: int, height: int, frames: int, input_size: int) -> tuple[float, float]:
    """Return seconds per frame of the network alone, and of its thread's processor time."""
    network = DepthAnything.load("tiny", device="cpu")
    images = [
        message for topic, _, message in make_messages(frames, width, height) if topic.endswith("image")
    ]
    arrays = [np.array(image.data).reshape(height, width, 3) for image in images]
    network.predict_frame(arrays[0], input_size)
    started, cpu = time.monotonic(), time.thread_time()
    with torch.inference_mode():
        for array in arrays:
            network.predict_frame(array, input_size)
    return (time.monotonic() - started) / len(arrays), (time.thread_time() - cpu) / len(arrays)


class Usage(threading.Thread):
    """Samples the memory of a process, and the processor time of it and of its workers."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self.memory: list[float] = []
        """MB over time."""
        self.cpu_seconds: dict[int, float] = {}
        """Of each process."""

    def run(self) -> None:
        while self._process.is_running():
            with suppress(psutil.Error):
                self.memory.append(self._process.memory_info().rss / 1e6)
                for one in (self._process, *self._process.children()):
                    times = one.cpu_times()
                    self.cpu_seconds[one.pid] = times.user + times.system
            time.sleep(0.25)


def run_process(bag: Path, out: Path, *options: str, **environment: str) -> tuple[dict[str, Any], Usage]:
    """Run the command; return its report and what it used."""
    command = [sys.executable, "-m", "redepth_ros.cli.main", "process", str(bag), str(out), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
    usage = Usage(process.pid)
    usage.start()
    if process.wait():
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    usage.join()
    return json.loads((out / "report.json").read_text()), usage


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument(
        "--keyframes", type=int, default=0, help="frames that workers refine; 0 skips this part"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison of workers")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--input-size", type=int, default=0)
    parser.add_argument("--formats", default="images,bag,tum,bag+images")
    options = parser.parse_args()
    size = ("--input-size", str(options.input_size))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bag = write_bag(place / "bag", make_messages(options.frames, options.width, options.height))
        gigabytes = sum(one.stat().st_size for one in bag.iterdir()) / 1e9
        bare, bare_cpu = measure_network(
            options.width, options.height, min(options.frames, 60), options.input_size
        )
        print(f"{options.frames} frames of {options.width}x{options.height}, {gigabytes:.2f} GB, ", end="")
        print(
            f"bare network {1 / bare:.1f} frames/s, {torch.get_num_threads()} threads of {os.cpu_count()} "
            "cores"
        )
        for format_ in (one.replace("+", ",") for one in options.formats.split(",") if one):
            report, usage = run_process(bag, place / f"out_{format_}", "--format", format_, *size)
            memory = usage.memory
            rate, cpu = report["frames"] / report["seconds"], report["cpu_seconds"]
            share = bare_cpu * report["frames"] / max(cpu.values())
            quarter, end = memory[len(memory) // 4], memory[-2]
            threads = ", ".join(f"{name} {1e3 * value / report['frames']:.0f}" for name, value in cpu.items())
            print(
                f"{format_:12} {rate:6.1f} frames/s, share {rate * bare:.2f}, by CPU time {share:.2f} "
                f"({threads} ms "
                f"of bare {1e3 * bare_cpu:.0f} ms); memory {quarter:.0f} MB after a quarter, {end:.0f} MB "
                "at the "
                f"end, {max(memory):.0f} MB at most",
                flush=True,
            )
        if options.keyframes:
            compare_workers(bag, place, options.keyframes, options.rounds, size)


def compare_workers(bag: Path, place: Path, keyframes: int, rounds: int, size: tuple[str, str]) -> None:
    """Print the time of one and of two workers in turns, with one CPU thread each."""
    refine = ("--keyframes", "all", "--steps", "40", "--ensemble-size", "1", "--format", "images")
    end = ("--end", str((keyframes - 0.5) / RATE))
    times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for turn in range(rounds):
        for workers, pairs in times.items():
            out = place / f"workers_{workers}_{turn}"
            command = (*refine, *size, *end, "--workers", str(workers))
            report, usage = run_process(bag, out, *command, OMP_NUM_THREADS="1")
            pairs.append((report["seconds"], max(usage.cpu_seconds.values())))
    one, two = (np.array(pairs) for pairs in times.values())  # (rounds, 2) each
    ratio = one / two
    seconds = [np.median(values, axis=0) for values in (one, two)]
    print(
        f"{keyframes} keyframes of 40 steps, one thread per worker, medians of {rounds} rounds:\n"
        f"  time since the networks are loaded: one worker {seconds[0][0]:.1f} s, two {seconds[1][0]:.1f} s, "
        f"ratio {np.median(ratio[:, 0]):.2f} ({ratio[:, 0].min():.2f} to {ratio[:, 0].max():.2f}); "
        f"{os.getloadavg()[1]:.1f} processes wanted the {os.cpu_count()} cores\n"
        f"  processor time of the busiest process, with its start: one worker {seconds[0][1]:.1f} s, "
        f"two {seconds[1][1]:.1f} s, ratio {np.median(ratio[:, 1]):.2f}"
    )


if __name__ == "__main__":
    main()
