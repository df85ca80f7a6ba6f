"""What one real brain costs in the volume store: decode time on one thread, size, error of float16.

    python experiments/preprocessing/store.py T1w.nii.gz [--mask MASK.nii.gz] [--grid paper_1mm]

The limits are for a whole 150×192×192 volume of a real 1 mm brain. The exit status is 1 where one is exceeded.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.pipeline import Preprocessing
from neuro_ssl.preprocessing.threads import one_thread

DECODE_MS, MEGABYTES, RELATIVE_ERROR = 12, 3, 2**-11  # half a unit in the last of float16's 11 binary digits
REPEATS = 50


def main() -> None:
    """Preprocess an image, write it, and read it back many times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="a T1w image, the whole head or already stripped")
    parser.add_argument("--mask", help="its brain mask; by default deepbet makes one")
    parser.add_argument("--grid", default="paper_1mm")
    arguments = parser.parse_args()
    sources = [arguments.image, arguments.mask] if arguments.mask else [arguments.image]

    preprocessing = Preprocessing(Grid.named(arguments.grid), "mask" if arguments.mask else "deepbet")
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        brain = preprocessing(*sources)
        print(f"preprocessing on one thread: {time.perf_counter() - start:.1f} s, {brain.measurements}")
        writer = StoreWriter(Path(folder), preprocessing.grid, preprocessing.settings)
        writer.write("scan", brain.volume, brain.measurements, brain.to_scan, sources)
        store = VolumeStore(writer.path, {}, None)  # only to read with; a whole store needs a cohort
        megabytes = (writer.path / "volumes/scan.b2nd").stat().st_size / 1e6
        milliseconds, processor = [], []
        for _ in range(REPEATS):
            start, start_processor = time.perf_counter(), time.process_time()
            volume = store.read("volumes/scan.b2nd")
            milliseconds.append(1000 * (time.perf_counter() - start))
            processor.append(1000 * (time.process_time() - start_processor))
    assert np.array_equal(volume, brain.volume)

    # A brain's distribution of intensities with all digits of float32, which the stored volume has no more.
    precise = brain.volume[brain.volume > 0].astype(np.float32) * np.float32(np.pi / 3)
    error = np.abs(precise.astype(np.float16).astype(np.float32) - precise) / precise

    fits = [
        # Of processor time, which other work on the machine hardly stretches.
        report(f"decode, median of {REPEATS} (ms of one core)", statistics.median(processor), DECODE_MS),
        report("size (MB)", megabytes, MEGABYTES),
        report("float16, largest relative error", float(error.max()), RELATIVE_ERROR),
    ]
    print(f"decode by the clock (ms): median {statistics.median(milliseconds):.1f}, fastest {min(milliseconds):.1f}")
    print(f"float16, mean relative error: {error.mean(dtype=np.float64):.2g}")
    print(f"volume: {'×'.join(map(str, volume.shape))}, {np.mean(volume > 0):.0%} of it brain")
    sys.exit(0 if all(fits) else 1)


def report(name: str, value: float, limit: float) -> bool:
    """Print one figure against its limit, and tell whether it keeps it."""
    print(f"{name}: {value:.3g}, limit {limit:.3g}: {'kept' if value <= limit else 'EXCEEDED'}")
    return value <= limit


if __name__ == "__main__":
    main()
