"""Seeded generators of hostile configurations, decoders, data sets and folders of evaluations."""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
import yaml
from hostile_images import MUTATIONS, encoded

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e300, float("inf"), float("nan")),
    *("", "x", "relu1_1", "../../x", "/etc/passwd", "a\0b", "\x1b[31m", "x" * 5000, "1e400", "0x10", "hf://a/b"),
    *([], [[]], [None], {}, {"x": 1}, [1] * 1000, {"stages": {}}, [[10**8, 10**8]], [["a", "b"]]),
)


def change_json(value: Any, random: Random) -> Any:
    """A copy of a JSON value with one part replaced, removed, added or nested."""
    copy = json.loads(json.dumps(value))
    place: Any = copy
    while True:
        keys: Any = list(place) if isinstance(place, dict) else range(len(place))
        key = random.choice(keys) if keys else None
        if key is None or not isinstance(place[key], dict | list) or not place[key] or random.random() < 0.4:
            break
        place = place[key]
    kind = random.choice(["replace", "replace", "remove", "add", "nest"])
    if isinstance(place, dict) and kind == "add":
        place[random.choice(["x", "", "__class__", "a.b", "é", "stages", "sha256"])] = random.choice(VALUES)
    elif key is not None and kind == "remove":
        del place[key]
    elif key is not None and kind == "nest":
        for _ in range(random.choice([1, 50])):
            place[key] = [place[key]]
    elif key is not None:
        place[key] = random.choice(VALUES)
    return copy


# Configurations

SNIPPETS = (
    "a: &a [*a]\n",
    "".join(["a0: &a0 [ha]\n", *(f"a{n + 1}: &a{n + 1} [{f'*a{n}, ' * 9}]\n" for n in range(9))]),
    "seed: !!python/object/apply:os.system ['touch executed']\n",
    "seed: !!python/name:os.system\n",
    "seed: !!bool x\n",
    "seed: !!set [1]\n",
    "seed: !!timestamp 2024-99-99\n",
    "seed: !!binary x\n",
    "seed: !!omap [1]\n",
    "seed: !unknown 3\n",
    "seed: " + "9" * 5000 + "\n",
    "seed: 0x" + "f" * 5000 + "\n",
    "seed: 1:2:3:4\n",
    "seed: " + "[" * 2000 + "]" * 2000 + "\n",
    "x: " + "{a: " * 3000 + "}" * 3000 + "\n",
    "".join(f"k{n}: 1\n" for n in range(20_000)),
    "? [a, b]\n: 1\n",
    "? {a: b}\n: 1\n",
    "<<: {seed: 1}\n",
    "<<: [1, 2]\n",
    "layers: [relu1_1]\nlayers: [relu1_1]\n",
    "--- 1\n--- 2\n",
    "%YAML 9.9\n---\n",
    "\t- a\n",
    "seed: \x01\n",
    "decoder: {stages: {1: [[100000000, 100000000]]}}\n",
    "decoder: {stages: {1: [[8, 100000000]]}}\n",
    "decoder: {corrections: 100000000}\n",
)


def configuration(path: Path, random: Random, base: dict[str, Any]) -> str:
    """Write a mutated configuration, and say what was done to it."""
    kind = random.choice(["value", "value", "values", "snippet", "text", "bytes"])
    if kind in ("value", "values"):
        values = base
        for _ in range(1 if kind == "value" else 5):
            values = change_json(values, random)
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8", errors="replace")
        return kind
    text = yaml.safe_dump(base)
    if kind == "snippet":
        snippet = random.choice(SNIPPETS)
        path.write_text(random.choice([snippet, text + snippet, snippet + text]))
    elif kind == "text":
        start = random.randrange(len(text))
        path.write_text(text[:start] + random.choice("{}[]&*!|>'\"%@`:-?,#\t\n\0ü") + text[start + 1 :])
    else:
        path.write_bytes(random.choice([random.randbytes(300), text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode()]))
    return kind


# Decoders


class Payload:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def decoder(folder: Path, random: Random) -> tuple[str, bool]:
    """Mutate the decoder in `folder`; return what was done, and whether its card vouches for other tensors now."""
    card, model = folder / "config.json", folder / "model.safetensors"
    kinds = ("card", "card", "card text", "tensors", "header", "model bytes", "pickle", "swap", "special", "nested")
    kind, values = random.choice(kinds), json.loads(card.read_text())
    vouched = False
    if kind == "card":
        card.write_text(json.dumps(change_json(values, random)))
    elif kind == "card text":
        card.write_bytes(random.choice(MUTATIONS)(card.read_bytes(), random))
    elif kind == "nested":
        card.write_text(random.choice(["[" * 100_000, '{"a":' * 100_000, '{"steps": ' + "9" * 5000 + "}"]))
    elif kind == "tensors":
        tensors = safetensors.torch.load_file(model)
        key = random.choice(sorted(tensors))
        change: Callable[[Any], Any] = random.choice(
            [
                lambda tensor: torch.full_like(tensor, float("nan")),
                lambda tensor: torch.full_like(tensor, float("inf")),
                torch.zeros_like,
                lambda tensor: tensor.repeat(2, *[1] * (tensor.ndim - 1)),
                lambda tensor: tensor.double(),
                lambda tensor: tensor.to(torch.int8),
            ]
        )
        tensors[key] = change(tensors[key].float()).contiguous()
        model.write_bytes(safetensors.torch.save(tensors))
        if random.random() < 0.7:  # as its author could
            vouched = True
            digest = random.choice([None, hashlib.sha256(model.read_bytes()).hexdigest()])
            card.write_text(json.dumps(values | {"sha256": digest}))
    elif kind == "header":
        data = model.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        name = random.choice([key for key in header if key != "__metadata__"])
        header[name] |= random.choice(
            [{"shape": [10**6, 10**7]}, {"shape": [-1]}, {"data_offsets": [0, 10**15]}, {"dtype": "F8"}, {"shape": []}]
        )
        text = json.dumps(header).encode()
        claimed = random.choice([len(text), 2**63, 10**12, 0])
        model.write_bytes(struct.pack("<Q", claimed) + text + data[8 + length :])
        card.write_text(json.dumps(values | {"sha256": None}))
    elif kind == "model bytes":
        model.write_bytes(random.choice(MUTATIONS)(model.read_bytes(), random))
    elif kind == "pickle":
        buffer = io.BytesIO()
        torch.save(Payload(), buffer)
        model.write_bytes(random.choice([pickle.dumps(Payload()), buffer.getvalue()]))
        card.write_text(json.dumps(values | {"sha256": None}))
    elif kind == "swap":
        other = folder.with_name("relu2_1")
        shutil.copy(other / random.choice(["config.json", "model.safetensors"]), folder)
    else:
        file = random.choice([card, model])
        file.unlink()
        special = random.choice(["fifo", "zero", "folder", "nothing", "loop"])
        if special == "fifo":
            os.mkfifo(file)
        elif special == "folder":
            file.mkdir()
        else:
            file.symlink_to({"zero": "/dev/zero", "nothing": "nothing", "loop": file.name}[special])
    return kind, vouched


# Data sets

PATHS = (
    *("/etc/passwd", "../secret.png", "secret.png", "http://127.0.0.1:9/x.png", "a\0b", "unknown://x", "file:///x"),
    *("zip://x.png::http://127.0.0.1:9/x.zip", "s3://bucket/x.png", "hf://", "~/x.png", "/dev/zero", "x" * 300, ""),
)


def data_set(folder: Path, random: Random) -> tuple[Path, str]:
    """Write a parquet or tar file with hostile cells or bytes; return it, and what it is."""
    kind = random.choice(["cells", "paths", "columns", "parquet bytes", "tar", "tar members", "tar bytes", "empty"])
    images = [random.choice(MUTATIONS)(encoded(random), random) for _ in range(3)]
    if kind.startswith("tar"):
        file = folder / "data.tar"
        with tarfile.open(file, "w") as archive:
            for number, data in enumerate(images):
                name = random.choice([f"{number}.png", f"../{number}.png", f"/tmp/{number}.jpg", f"a/{number}.x.png"])
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
                if kind == "tar members":
                    odd = tarfile.TarInfo(random.choice([f"{number}.png", f"{number}.json", "x", "..", "a/" * 90]))
                    odd.type = random.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
                    odd.linkname = random.choice(PATHS).replace("\0", "")
                    archive.addfile(odd)
        if kind == "tar bytes":
            file.write_bytes(random.choice(MUTATIONS)(file.read_bytes(), random))
        return file, kind
    file = folder / "data.parquet"
    struct_type = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells: Any = pa.array([{"bytes": data, "path": None} for data in images], struct_type)
    if kind == "paths":
        cells = pa.array([{"bytes": None, "path": random.choice(PATHS)} for _ in range(3)], struct_type)
        cells = random.choice([cells, pa.array([random.choice(PATHS) for _ in range(3)])])
    elif kind == "cells":
        some: Any = [None, {"bytes": None, "path": None}, {"bytes": b"", "path": "x"}]
        cells = random.choice([pa.array(some, struct_type), pa.array(images), pa.array([None, b"", images[0]])])
    elif kind == "columns":
        cells = random.choice(
            [pa.array([1, 2, 3]), pa.array([[1.0]] * 3), pa.array([{"a": 1}] * 3), pa.nulls(3), pa.array([True] * 3)]
        )
    elif kind == "empty":
        cells = cells[:0]
    table = pa.table({random.choice(["image", "image", "image", "x", ""]): cells})
    pq.write_table(table, file)
    if kind == "parquet bytes":
        file.write_bytes(random.choice(MUTATIONS)(file.read_bytes(), random))
    return file, kind


# Evaluations


def evaluation(folder: Path, random: Random) -> str:
    """Damage a finished evaluation, and say how."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    cells = [path for path in files if "records" in path.parts and path.suffix == ".json"]
    kind = random.choice(["settings", "cell", "cell", "cut", "special", "delete", "extra", "NaN"])
    file = (
        folder / "settings.json" if kind == "settings" else random.choice(cells if kind in ("cell", "NaN") else files)
    )
    if kind in ("settings", "cell"):
        values = json.loads(file.read_text())
        if kind == "cell":  # its scores are numbers, of which no reader can know whether they are right
            kept = values.pop("scores")
            changed = change_json(values, random) | {"scores": random.choice([{}, kept, {"psnr": 1.0}, None])}
        else:
            changed = change_json(values, random)
        file.write_text(json.dumps(changed))
    elif kind == "NaN":
        values = json.loads(file.read_text())
        values["scores"][random.choice(list(values["scores"]))] = random.choice([float("nan"), float("inf"), "x", []])
        file.write_text(json.dumps(values))
    elif kind == "cut":
        data = file.read_bytes()
        file.write_bytes(data[: random.randrange(len(data))])
    elif kind == "delete":
        file.unlink()
    elif kind == "extra":
        (folder / random.choice([f".{'0' * 32}.part", "notes.txt", "records/x", ".lock"])).write_text("x")
    else:
        file.unlink()
        special = random.choice(["fifo", "zero", "folder", "loop"])
        if special == "fifo":
            os.mkfifo(file)
        elif special == "folder":
            file.mkdir()
        else:
            file.symlink_to("/dev/zero" if special == "zero" else file.name)
    return kind
