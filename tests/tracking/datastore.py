"""What an offline W&B folder holds, read from its file: LevelDB's log format, records in Protocol Buffers."""

import json
import struct
import subprocess
import sys
from collections import Counter

from google.protobuf.json_format import MessageToDict
from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7  # a block, and of a record its checksum, length and kind: whole, first, middle, last
START = b":W&B"


def offline_folder(run):
    (folder,) = run.glob("wandb/offline-run-*")
    return folder


def records(run):
    """Every record of a run's only offline folder, in its order."""
    (file,) = offline_folder(run).glob("*.wandb")
    data = file.read_bytes()
    assert data.startswith(START)
    at, parts, found = HEADER, b"", []
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:  # padding
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    assert not parts
    return found


def as_plain(run):
    """The same as containers."""
    return [MessageToDict(record, preserving_proto_field_name=True) for record in records(run)]


def _items(updates):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in updates}


def history(run):
    return [_items(record.history.item) for record in records(run) if record.WhichOneof("record_type") == "history"]


def inspected(run):
    """How many records of each type W&B's own reader finds."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(offline_folder(run))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return Counter(json.loads(line)["type"] for line in lines)


def scalars(run):
    """(step, name) → value, of what is logged as numbers."""
    found = [
        ((row["trainer/global_step"], name), value)
        for row in history(run)
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("trainer/global_step", "epoch")
        if not name.startswith("_") and "." not in name  # W&B's own, and what it tells of pictures and tables
    ]
    assert len(dict(found)) == len(found)  # once each
    return dict(found)


def summary(run):
    whole = {}
    for record in records(run):
        whole |= _items(record.summary.update)
    return whole


def config(run):
    whole = {}
    for record in records(run):
        whole |= _items(record.config.update)
    return whole


def about(run):
    (record,) = [record.run for record in records(run) if record.WhichOneof("record_type") == "run"]
    return record


def artifacts(run):
    return [record.artifact for record in records(run) if record.WhichOneof("record_type") == "artifact"]
