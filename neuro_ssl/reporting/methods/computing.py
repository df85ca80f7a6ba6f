"""The methods' part on software and machines."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from neuro_ssl.reporting.methods.words import counted, listed, sentences, unknown
from neuro_ssl.reporting.runs.reading import Run

CITATIONS = {
    "torch": "PyTorch {} (Paszke et al. 2019)",
    "lightning": "Lightning {} (Falcon et al. 2019)",
    "monai": "MONAI {} (Cardoso et al. 2022)",
    "numpy": "NumPy {}",
    "nibabel": "NiBabel {}",
}


def computing(records: Sequence[Any], runs: Sequence[Run]) -> str:
    """Versions, commits, machines; and which runs were repeated.

    Args:
        records: of runs and evaluations, with `versions`, `commit`, `dirty` and `hardware`.
        runs: beside which repetitions may lie.
    """
    versions = {
        name: sorted({r.versions[name] for r in records if name in r.versions}) for name in ("neuro_ssl", "python")
    }
    libraries = [
        text.format("/".join(found))
        for name, text in CITATIONS.items()
        if (found := sorted({record.versions[name] for record in records if name in record.versions}))
    ]
    commits = sorted({record.commit[:12] for record in records if record.commit})
    of_commit = (
        f"commit{'s' if len(commits) > 1 else ''} {listed(commits)}" if commits else unknown("its commit or release")
    )
    dirty = ", with changes that were not committed" if any(record.dirty for record in records) else ""
    package = f"neuro_ssl {'/'.join(versions['neuro_ssl'])} ({of_commit}{dirty})"
    on = f"Python {'/'.join(versions['python'])}" if versions["python"] else ""
    machines = list(dict.fromkeys(_machine(record.hardware) for record in records))
    return sentences(
        f"Training and evaluation used {package}, on {listed([*([on] if on else []), *libraries])}.",
        f"They ran on {' and on '.join(machines)}.",
        _repeated(runs),
    )


def _machine(hardware: Mapping[str, Any]) -> str:
    gpus = list(hardware.get("gpus") or [])
    if not gpus:
        cores = hardware.get("cpus")
        return f"{counted(cores, 'CPU core')} ({hardware.get('machine', '')})" if cores else unknown("the machine")
    kinds = [f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)]
    return f"a machine with {listed(kinds)}"


def _repeated(runs: Sequence[Run]) -> str:
    """What `neuro_ssl.rerun` found of them, where it lies beside."""
    files = {run.path.parent / "reruns" / run.path.name / "rerun.json" for run in runs}
    same = [json.loads(file.read_text(encoding="utf-8"))["same"] for file in files if file.is_file()]
    alike, others = sum(same), len(same) - sum(same)
    told = [f"{counted(alike, 'run')} gave the same weights and scores bit for bit"] if alike else []
    told += [f"{counted(others, 'run')} gave other numbers ({unknown('how large, from rerun.md')})"] if others else []
    return f"Trained once more from {'its' if len(same) == 1 else 'their'} records, {'; '.join(told)}." if told else ""
