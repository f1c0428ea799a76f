"""Adapters of the systems, and the process that measures one setting of one system.

    PYTHON benchmarks/systems.py JOB

JOB is a JSON object with the system, its settings and the texts; the figures are printed as a line of JSON. With the
key serve, the process stays loaded: it prints a line when it is ready, then one for each request, a line of JSON on its
standard input. Runs in the environment of the system, so it imports only installed packages.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Vector = tuple[Any, Any]
"""Indices and values of a sparse vector."""

OPENVINO_INT8 = "openvino/openvino_model_qint8_quantized.xml"

Encode = Callable[[Sequence[str]], list[Vector]]


def spladerunner(job: dict[str, Any]) -> Encode:
    """Expander, as installed."""
    from spladerunner import Expander

    expander = Expander(job["bundle"], job["max_length"], threads=job["threads"])
    return lambda texts: [(vector.indices, vector.values) for vector in expander.encode(texts)]


def spladerunner_batches(job: dict[str, Any]) -> Encode:
    """The path of Expander on devices, with a graph that pools inside, on any provider."""
    from functools import partial

    from spladerunner.inference.batch_encoder import BatchEncoder
    from spladerunner.inference.batches import TOKENS_IN_FLIGHT, WORKERS, run_in_batches, tokenize_ahead
    from spladerunner.inference.cpu_count import available_cores
    from spladerunner.inference.providers import Device, device_of
    from spladerunner.inference.session import Session
    from spladerunner.inference.tokenizer import Tokenizer

    providers, length = [job["provider"]], job["max_length"]
    tokenizer = Tokenizer(Path(job["tokenizer"]) / "tokenizer.json")
    session = Session(job["graph"], providers, device=device_of(providers) or Device("cpu", 0))
    encoder = BatchEncoder(session, tokenizer.vocabulary)

    def encode(texts: Sequence[str]) -> list[Vector]:
        vectors = run_in_batches(
            tokenize_ahead(texts, partial(tokenizer.encode, max_length=length), available_cores()),
            encoder.encode,
            budget=encoder.budget,
            max_length=length,
            threads=WORKERS,
            tokens_in_flight=TOKENS_IN_FLIGHT,
        )
        return [(vector.indices, vector.values) for vector in vectors]

    return encode


def share_of_limit(job: dict[str, Any]) -> Encode:
    """Times texts of one length without tokenizing, and a large product, on the device; prints both and exits."""
    import onnxruntime

    from spladerunner.inference.batches import Batch
    from spladerunner.inference.host_memory import HostMemory
    from spladerunner.inference.providers import Device, device_of
    from spladerunner.inference.session import Session

    providers = [job["provider"]]
    device = device_of(providers) or Device("cpu", 0)
    session = Session(job["graph"], providers, device=device)
    ids = np.random.default_rng(0).integers(5, 50, (job["batch"], job["max_length"]))
    row = (0,) * len(ids)
    batch = Batch(row, row, ids, np.ones_like(ids), np.zeros_like(ids))
    product = onnxruntime.InferenceSession(job["product"], providers=providers)
    size = job["size"]
    kind = np.float16 if "float16" in product.get_inputs()[0].type else np.float32
    matrix = np.random.default_rng(0).random((size, size), dtype=np.float32).astype(kind)
    binding = product.io_binding()
    for name in "ab":
        value = onnxruntime.OrtValue.ortvalue_from_numpy(matrix, device.type, device.id)
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("c", device.type, device.id)

    def run_product() -> None:
        product.run_with_iobinding(binding)
        binding.synchronize_outputs()

    assert session.vocabulary_size is not None
    with HostMemory(device).array((len(ids), session.vocabulary_size), session.output_type) as weights:
        texts = len(ids) / fastest(lambda: session.run_batch(batch, weights))
    print_rates({"texts": texts, "product": 2 * size**3 / fastest(run_product)})
    raise SystemExit


def selection(job: dict[str, Any]) -> Encode:
    """Times a batch, without tokenizing, on the device: vectors from all weights, and from those that a graph selects.

    Prints both, and the share of the sum of all weights that the graph keeps, and exits.
    """
    from itertools import cycle, islice

    import onnxruntime

    from spladerunner import SparseVector
    from spladerunner.inference.batch_encoder import BatchEncoder
    from spladerunner.inference.batches import Batch
    from spladerunner.inference.host_memory import HostMemory
    from spladerunner.inference.providers import Device, device_of
    from spladerunner.inference.session import Session
    from spladerunner.inference.tokenizer import Tokenizer

    providers, length, rows = [job["provider"]], job["max_length"], job["batch"]
    device = device_of(providers) or Device("cpu", 0)
    tokenizer = Tokenizer(Path(job["tokenizer"]) / "tokenizer.json")
    texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))[job["lists"][0]]
    tokenized = [tokenizer.encode(text, length) for text in islice(cycle(texts), rows)]
    batch = Batch.of(list(enumerate(tokenized)), length)
    encoder = BatchEncoder(Session(job["graph"], providers, device=device), tokenizer.vocabulary)
    selecting = onnxruntime.InferenceSession(job["selecting"], providers=providers)
    given = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.type_ids}
    weights, places = selecting.get_outputs()
    kind = np.dtype(np.float16 if "float16" in weights.type else np.float32)
    memory = HostMemory(device)
    carries_weight = tokenizer.vocabulary.carries_weight

    def select() -> list[SparseVector]:
        binding = selecting.io_binding()
        for name in [each.name for each in selecting.get_inputs()]:
            binding.bind_cpu_input(name, given[name])  # copies it to the device
        shape = rows, weights.shape[1]
        with memory.array(shape, kind) as values, memory.array(shape, np.dtype(np.int32)) as indices:
            for name, array in ((weights.name, values), (places.name, indices)):
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            selecting.run_with_iobinding(binding)
            vectors = []
            for row, at in zip(values, indices, strict=True):
                chosen = np.flatnonzero((row > 0) & carries_weight[at])
                chosen = chosen[np.argsort(at[chosen])]
                vectors.append(SparseVector(at[chosen], row[chosen]))
        return vectors

    rates = {"all": rows / fastest(lambda: encoder.encode(batch)), "selected": rows / fastest(select)}
    total, kept = (sum(float(each.values.sum()) for each in found) for found in (encoder.encode(batch), select()))
    print_rates(rates, kept=kept / total)
    raise SystemExit


def fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of five runs, after one more."""
    run()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def print_rates(rates: dict[str, float], **others: float) -> None:
    """Prints figures as `main` does."""
    print(json.dumps({"docs_per_second": rates, **others}))


def fastembed(job: dict[str, Any]) -> Encode:
    """SparseTextEmbedding with a local float32 graph."""
    from fastembed import SparseTextEmbedding

    model = SparseTextEmbedding(
        "prithivida/Splade_PP_en_v1",
        specific_model_path=job["fp32"],
        threads=job.get("threads"),
        cuda=job.get("provider", "").startswith("CUDA"),
    )
    batch = job["batch"]
    return lambda texts: [(each.indices, each.values) for each in model.embed(texts, batch_size=batch)]


def splade_0_1(job: dict[str, Any]) -> Encode:
    """Expander of SPLADERunner 0.1, with a local float32 graph."""
    from spladerunner import Expander

    expander = Expander("Splade_PP_en_v1", job["max_length"], cache_dir=job["splade_0_1"])  # type: ignore[call-arg]
    batch = job["batch"]

    def encode(texts: Sequence[str]) -> list[Vector]:
        found = []
        for start in range(0, len(texts), batch):
            found += expander.expand(list(texts[start : start + batch]))
        return [(each["indices"], each["values"]) for each in found]

    return encode


def sentence_transformers(job: dict[str, Any]) -> Encode:
    """SparseEncoder with the backend "torch", "onnx" or "openvino".

    products: torch's precision of float32 products; with "medium", oneDNN computes them in bfloat16. oneDNN keeps more
    primitives than its 1,024, since each length of a text has its own, and large arrays may lie in huge pages.
    """
    os.environ |= {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384", "THP_MEM_ALLOC_ENABLE": "1"}
    import torch
    from sentence_transformers import SparseEncoder

    backend, settings = job["backend"], {}
    if job.get("threads"):
        torch.set_num_threads(job["threads"])
    if backend == "torch":
        torch.set_float32_matmul_precision(job.get("products", "highest"))
        settings = {"torch_dtype": getattr(torch, job.get("type", "float32"))}
        if attention := job.get("attention"):
            settings["attn_implementation"] = attention  # with flash_attention_2, texts are not padded
    elif backend == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        settings = {"file_name": f"onnx/{job['graph']}", "session_options": options, "provider": "CPUExecutionProvider"}
    else:
        settings = {"file_name": OPENVINO_INT8, "ov_config": {"INFERENCE_NUM_THREADS": str(job["threads"])}}
    model = SparseEncoder(job["st"], device=job.get("device", "cpu"), backend=backend, model_kwargs=settings)
    model.max_seq_length = job["max_length"]
    batch = job["batch"]

    def encode(texts: Sequence[str]) -> list[Vector]:
        with torch.inference_mode():
            rows = model.encode(list(texts), batch_size=batch, show_progress_bar=False).cpu().coalesce()
        indices, values = rows.indices().numpy(), rows.values().float().numpy()
        return [(indices[1][indices[0] == row], values[indices[0] == row]) for row in range(len(texts))]

    return encode


def embed_anything(job: dict[str, Any]) -> Encode:
    """EmbeddingModel of EmbedAnything with a local float32 graph, through a cache of the Hub that holds only that."""
    source = Path(job["fp32"]).resolve()
    cache = source.parent / "hub"
    model = cache / "models--local--splade"
    commit = "0" * 40
    for path in source.iterdir():
        link = model / "snapshots" / commit / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path)
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs" / "main").write_text(commit)
    os.environ["HF_HUB_CACHE"] = str(cache)
    os.environ["HF_HOME"] = str(cache)
    from embed_anything import EmbeddingModel, TextEmbedConfig, WhichModel, embed_query

    opened = EmbeddingModel.from_pretrained_onnx(
        WhichModel.SparseBert, hf_model_id="local/splade", path_in_repo="model.onnx"
    )
    config = TextEmbedConfig(batch_size=job["batch"])

    def encode(texts: Sequence[str]) -> list[Vector]:
        rows = [np.asarray(each.embedding) for each in embed_query(list(texts), opened, config)]
        if len(rows) != len(texts):
            raise RuntimeError(f"EmbedAnything's embed_query gave {len(rows)} vectors for {len(texts)} texts")
        return [(np.flatnonzero(row), row[np.flatnonzero(row)]) for row in rows]

    return encode


def optimum(job: dict[str, Any]) -> Encode:
    """ORTModelForMaskedLM with optimum's dynamic int8, and the maximum before the activation."""
    import onnxruntime
    import torch
    from optimum.onnxruntime import ORTModelForMaskedLM
    from transformers import AutoTokenizer

    folder = Path(job["optimum"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    model = ORTModelForMaskedLM.from_pretrained(folder, file_name="model_quantized.onnx", session_options=options)
    batch = job["batch"]

    def encode(texts: Sequence[str]) -> list[Vector]:
        found = []
        for start in range(0, len(texts), batch):
            tokens = tokenizer(
                list(texts[start : start + batch]),
                padding=True,
                truncation=True,
                max_length=job["max_length"],
                return_tensors="pt",
            )
            logits = model(**tokens).logits
            if batch > 1:
                logits.masked_fill_(tokens["attention_mask"].unsqueeze(-1) == 0, -torch.inf)
            for row in torch.log1p(torch.relu(logits.amax(dim=1))).numpy():
                indices = np.flatnonzero(row)
                found.append((indices, row[indices]))
        return found

    return encode


def openvino(job: dict[str, Any]) -> Encode:
    """OpenVINO's own asynchronous queue on the int8 graph of sentence-transformers, a text a request."""
    from openvino import AsyncInferQueue, Core
    from tokenizers import Tokenizer

    folder = Path(job["st"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(job["max_length"])
    tokenizer.no_padding()
    model = Core().compile_model(
        str(folder / OPENVINO_INT8),
        "CPU",
        {"NUM_STREAMS": str(job["streams"]), "INFERENCE_NUM_THREADS": str(job["threads"])},
    )
    names = {name for given in model.inputs for name in given.names}
    queue = AsyncInferQueue(model, job["streams"])
    found: dict[int, Vector] = {}

    def take(request: Any, at: int) -> None:
        largest = np.maximum(request.get_output_tensor(0).data[0].max(axis=0), 0)
        indices = np.flatnonzero(largest)
        found[at] = (indices, np.log1p(largest[indices]))

    queue.set_callback(take)

    def encode(texts: Sequence[str]) -> list[Vector]:
        for at, encoding in enumerate(tokenizer.encode_batch(list(texts))):
            given = {
                "input_ids": encoding.ids,
                "attention_mask": encoding.attention_mask,
                "token_type_ids": encoding.type_ids,
            }
            queue.start_async({name: np.array([given[name]]) for name in names}, at)
        queue.wait_all()
        return [found[at] for at in range(len(texts))]

    return encode


def reference(job: dict[str, Any]) -> Encode:
    """Published formula in torch, float32, one text at a time."""
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["checkpoint"])
    model = AutoModelForMaskedLM.from_pretrained(job["checkpoint"]).eval()

    def encode(texts: Sequence[str]) -> list[Vector]:
        found = []
        with torch.inference_mode():
            for text in texts:
                tokens = tokenizer(text, truncation=True, max_length=job["max_length"], return_tensors="pt")
                logits = model(tokens["input_ids"], tokens["attention_mask"]).logits
                row = torch.log1p(torch.relu(logits.amax(dim=1)))[0].numpy()
                indices = np.flatnonzero(row)
                found.append((indices, row[indices]))
        return found

    return encode


def matrix_products(job: dict[str, Any]) -> Encode:
    """Large MatMulInteger for each text, as an upper bound of int8 throughput; returns no vectors."""
    import onnxruntime

    from spladerunner.inference.arena import products_saturate

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    if products_saturate():  # compared is the speed of right products
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(job["product"], options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[1]
    given = np.random.default_rng(0).integers(0, 255, (size, size)).astype(np.uint8)

    def encode(texts: Sequence[str]) -> list[Vector]:
        for _ in texts:
            session.run(None, {"a": given})
        return []

    return encode


SYSTEMS: dict[str, Callable[[dict[str, Any]], Encode]] = {
    "spladerunner": spladerunner,
    "spladerunner batches": spladerunner_batches,
    "share of limit": share_of_limit,
    "selection": selection,
    "fastembed": fastembed,
    "splade-0.1": splade_0_1,
    "sentence-transformers": sentence_transformers,
    "embed-anything": embed_anything,
    "optimum": optimum,
    "openvino": openvino,
    "reference": reference,
    "matrix products": matrix_products,
}


def main() -> None:
    """Loads the system; then serves requests, or warms up, encodes each list of texts, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", metavar="JOB", type=json.loads)
    job: dict[str, Any] = parser.parse_args().job
    if cores := job.get("cores"):
        os.sched_setaffinity(0, cores)
        os.environ["OMP_NUM_THREADS"] = str(len(cores))
        job = {"threads": len(cores), **job}
    started = time.perf_counter()
    encode = SYSTEMS[job["system"]](job)
    loaded = time.perf_counter() - started
    if job.get("serve"):
        serve(encode)
        return
    lists: dict[str, list[str]] = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))
    lists = {name: lists[name] for name in job["lists"]}
    seconds, found = {}, {}
    for name, texts in lists.items():
        encode(texts)  # every shape that is timed has run before
        times = []
        for _ in range(job.get("repeat", 1)):
            started = time.perf_counter()
            found[name] = encode(texts)
            times.append(time.perf_counter() - started)
        seconds[name] = min(times)
    first = found[next(iter(lists))]
    if job.get("save"):
        parts = {f"{at}-{part}": vector[n] for at, vector in enumerate(first) for n, part in enumerate("iv")}
        np.savez(job["save"], **parts)
    cosines = agreement(first, job["agree"]) if job.get("agree") else []
    print(
        json.dumps(
            {
                "load_seconds": loaded,
                "docs_per_second": {name: len(texts) / seconds[name] for name, texts in lists.items()},
                "peak_mb": peak_mb(),
                "worst_cosine": min(cosines, default=None),
                "mean_cosine": float(np.mean(cosines)) if cosines else None,
            }
        )
    )


def serve(encode: Encode) -> None:
    """Encodes the texts of each request, and answers with seconds, peak memory and cosines with the reference."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        vectors = encode(request["texts"])
        seconds = time.perf_counter() - started
        expected = request["reference"]
        cosines = agreement(vectors, expected, request["at"]) if expected else []
        print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "cosines": cosines}), file=answers, flush=True)


def peak_mb() -> float:
    """Peak resident memory of this process in MB; getrusage would include the parent's peak, from before exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def agreement(vectors: Sequence[Vector], path: str, positions: Sequence[int] | None = None) -> list[float]:
    """Cosine of each vector with the reference vector of its text. path: file of the reference vectors.

    positions: of the texts in the list of the reference; by default the first ones.
    """
    expected = np.load(path)
    cosines = []
    for at, (indices, values) in zip(positions or range(len(vectors)), vectors, strict=True):
        mine = dict(zip(np.asarray(indices).tolist(), np.asarray(values, dtype=np.float64).tolist(), strict=True))
        other = expected[f"{at}-v"].astype(np.float64)
        product = sum(
            mine.get(index, 0.0) * value for index, value in zip(expected[f"{at}-i"].tolist(), other, strict=True)
        )
        norms = np.linalg.norm(list(mine.values())) * np.linalg.norm(other)
        cosines.append(float(product / norms) if norms else float(not mine and not other.size))
    return cosines


if __name__ == "__main__":
    main()
