"""Speed and memory of `redepth process`: frames per second over the bare network's, memory over a long bag.

    ./dev run python bench/offline.py [--frames 150] [--keyframes 8]
    ./dev run python bench/offline.py --frames 2200 --input-size 70   # 2 GB: memory

Each line processes the same bag of rendered images, written here first. "share" is frames per second
over those of the bare network on the same images, decoded already. "by CPU time" is the same for a machine
with cores to spare: the network's time over that of the slowest of the three threads, in processor time,
which other work on the machine does not change (one torch thread: OMP_NUM_THREADS=1). With --keyframes,
the time of one and of two workers that refine each frame is compared.
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
from pathlib import Path
from typing import Any

import numpy as np
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
    network.predict_with_class_token(arrays[0], input_size)
    started, cpu = time.monotonic(), time.thread_time()
    with torch.inference_mode():
        for array in arrays:
            network.predict_with_class_token(array, input_size)
    return (time.monotonic() - started) / len(arrays), (time.thread_time() - cpu) / len(arrays)


class Memory(threading.Thread):
    """Samples the resident memory of a process."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self.samples = pid, []

    def run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE") / 1e6
        while True:
            try:
                self.samples.append(int(Path(f"/proc/{self._pid}/statm").read_text().split()[1]) * page)
            except (OSError, IndexError):
                return
            time.sleep(0.25)


def run_process(bag: Path, out: Path, *options: str) -> tuple[dict[str, Any], list[float]]:
    """Run the command; return its report and its memory over time (MB)."""
    command = [sys.executable, "-m", "redepth_ros.cli.main", "process", str(bag), str(out), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = Memory(process.pid)
    memory.start()
    if process.wait():
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    memory.join()
    return json.loads((out / "report.json").read_text()), memory.samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument(
        "--keyframes", type=int, default=0, help="frames that workers refine; 0 skips this part"
    )
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
        for format_ in (one.replace("+", ",") for one in options.formats.split(",")):
            report, memory = run_process(bag, place / f"out_{format_}", "--format", format_, *size)
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
            refine = (
                "--keyframes",
                "all",
                "--steps",
                "20",
                "--ensemble-size",
                "1",
                "--format",
                "images",
                *size,
            )
            end = ("--end", str((options.keyframes - 0.5) / RATE))
            times = []
            for workers in (1, 2):
                out = place / f"workers_{workers}"
                report, _ = run_process(bag, out, *refine, *end, "--workers", str(workers))
                times.append(report["seconds"])
            print(
                f"{options.keyframes} keyframes: one worker {times[0]:.1f} s, two {times[1]:.1f} s, ", end=""
            )
            print(f"ratio {times[0] / times[1]:.2f} (with the start of the workers)")


if __name__ == "__main__":
    main()
