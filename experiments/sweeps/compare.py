"""Are the runs of two folders the same, bit for bit? `python compare.py undisturbed runs`; exit status 1 if not."""

import sys
from pathlib import Path

import torch
import yaml

TIMING = (",throughput/", ",representation/seconds,", ",representation/share_of_time,")


def history(run: Path) -> list[str]:
    """All that was logged but the machine's speed."""
    return [line for line in (run / "metrics.csv").read_text().splitlines() if not any(t in line for t in TIMING)]


def main() -> None:
    first, second = (
        {path.parent.name: path.parent for path in Path(folder).glob("*/run.yaml")} for folder in sys.argv[1:3]
    )
    common, alike = sorted(first.keys() & second.keys()), 0
    for name in common:
        states = [torch.load(runs[name] / "checkpoints" / "last.ckpt", weights_only=True) for runs in (first, second)]
        weights, others = (state["state_dict"] for state in states)
        status = [yaml.safe_load((runs[name] / "run.yaml").read_text())["status"] for runs in (first, second)]
        same = weights.keys() == others.keys() and all(torch.equal(weights[key], others[key]) for key in weights)
        alike += same and history(first[name]) == history(second[name]) and status[0] == status[1]
    print(f"{alike} of {len(common)} runs that both folders hold are alike, bit for bit")
    print(f"in {sys.argv[1]} alone: {len(first.keys() - second.keys())}")
    sys.exit(alike < len(common) or not common or bool(first.keys() - second.keys()))


if __name__ == "__main__":
    main()
