"""Fake servers on loopback, for engines whose servers are not in a package registry.

They answer the requests of the official clients, and refuse and round as the sources of the engines do. They prove
nothing about how the engines search.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import numpy as np

MOST_CLAUSES = 1024
"""Default of indices.query.bool.max_clause_count."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serves on a free port while the block runs, and yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class RefusedError(Exception):
    """Request that the engine answers with status 400."""


class FakeServer(BaseHTTPRequestHandler):
    """Reads the JSON lines of a request, and sends the JSON that `answer` returns."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    product: ClassVar[dict[str, str]] = {}

    def answer(self, path: str, lines: list[Any]) -> dict[str, Any]:
        raise NotImplementedError

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        try:
            status, reply = (
                200,
                self.answer(unquote(urlsplit(self.path).path), list(map(json.loads, body.splitlines()))),
            )
        except RefusedError as refusal:
            cause = {"type": "illegal_argument_exception", "reason": str(refusal)}
            status, reply = 400, {"status": 400, "error": {**cause, "root_cause": [cause]}}
        content = json.dumps(reply).encode()
        self.send_response(status)
        for name, value in {**self.product, "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = respond  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


def feature_field(value: Any) -> float:
    """Rounds a weight to 9 significant bits, as Lucene's FeatureField does; it must be a positive normal float."""
    weight = np.float32(value)
    if not np.isfinite(weight) or weight < np.finfo(np.float32).tiny:
        raise RefusedError(f"featureValue must be a positive normal float, got: {value}")
    return float((weight.view(np.uint32) >> 15 << 15).view(np.float32))


class FakeLucene(FakeServer):
    """Elasticsearch and OpenSearch: creates indexes, accepts documents in bulk, and searches them."""

    product: ClassVar[dict[str, str]] = {"X-Elastic-Product": "Elasticsearch"}

    def __init_subclass__(cls) -> None:
        cls.types = {}
        cls.documents = {}

    types: ClassVar[dict[str, str]]
    documents: ClassVar[dict[str, dict[str, dict[str, float]]]]

    def answer(self, path: str, lines: list[Any]) -> dict[str, Any]:
        if path.endswith("/_bulk"):
            return self.bulk(lines)
        if path.endswith("/_search"):
            return self.search(lines[0]["query"], lines[0].get("size", 10))
        if lines:
            self.types.update({name: field["type"] for name, field in lines[0]["mappings"]["properties"].items()})
        return {"acknowledged": True, "version": {"number": "9.0.0", "distribution": "opensearch"}}

    def bulk(self, lines: list[Any]) -> dict[str, Any]:
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            ((operation, about),) = action.items()
            fields = {}
            for name, value in source.items():
                assert self.types[name] in ("sparse_vector", "rank_features")
                if self.types[name] == "sparse_vector" and (dotted := [feature for feature in value if "." in feature]):
                    raise RefusedError(f"[sparse_vector] fields do not support dots in feature names: {dotted}")
                fields[name] = {feature: feature_field(weight) for feature, weight in value.items()}
            self.documents[about["_id"]] = fields
            items.append({operation: {**about, "status": 201}})
        return {"errors": False, "took": 0, "items": items}

    def search(self, query: dict[str, Any], size: int) -> dict[str, Any]:
        ((kind, body),) = query.items()
        if kind == "match_none":
            field, weights = next(iter(self.types)), {}
        elif kind == "sparse_vector":
            field, weights = body["field"], body["query_vector"]
            assert body["prune"] is False and self.types[field] == kind
        elif kind == "neural_sparse":
            ((field, options),) = body.items()
            weights = options["query_tokens"]
        else:
            clauses = [clause["rank_feature"] for clause in body["should"]]
            assert all(clause["linear"] == {} for clause in clauses)
            (field,) = {clause["field"].rpartition(".")[0] for clause in clauses}
            weights = {clause["field"].rpartition(".")[2]: clause["boost"] for clause in clauses}
        assert kind in ("sparse_vector", "match_none") or self.types[field] == "rank_features"
        if len(weights) > MOST_CLAUSES:
            raise RefusedError(f"maxClauseCount is set to {MOST_CLAUSES}")
        scores = {
            name: sum(weight * fields[field].get(feature, 0) for feature, weight in weights.items())
            for name, fields in self.documents.items()
        }
        best = sorted(((score, name) for name, score in scores.items() if score > 0), reverse=True)[:size]
        hits = [{"_index": "docs", "_id": name, "_score": score, "_source": {}} for score, name in best]
        return {"took": 0, "timed_out": False, "_shards": {}, "hits": {"max_score": None, "hits": hits}}


class FakeVespa(FakeServer):
    """Vespa: accepts documents with a tensor<float>(token{}), and ranks all of them by a dot product with query(q)."""

    def __init_subclass__(cls) -> None:
        cls.documents = {}

    documents: ClassVar[dict[str, dict[str, float]]]

    def answer(self, path: str, lines: list[Any]) -> dict[str, Any]:
        if put := re.fullmatch(r"/document/v1/(\w+)/(\w+)/docid/(.+)", path):
            self.documents[put[3]] = self.tensor(lines[0]["fields"]["vector"])
            return {"pathId": path, "id": f"id:{put[1]}:{put[2]}::{put[3]}"}
        query = self.tensor(lines[0]["input.query(q)"])
        scores = {
            name: sum(weight * tensor.get(token, 0) for token, weight in query.items())
            for name, tensor in self.documents.items()
        }
        best = sorted(((score, name) for name, score in scores.items()), reverse=True)[: lines[0]["hits"]]
        children = [{"id": name, "relevance": score, "fields": {"id": name}} for score, name in best]
        return {
            "root": {"id": "toplevel", "relevance": 1.0, "fields": {"totalCount": len(scores)}, "children": children}
        }

    @staticmethod
    def tensor(value: dict[str, Any]) -> dict[str, float]:
        """Parses a tensor of one mapped dimension as Vespa's TensorReader does: a first key "blocks" is not a label."""
        if "blocks" in value:
            raise RefusedError("The 'blocks' field can only be used with mixed tensors with bound dimensions.")
        cells = value["cells"] if isinstance(value.get("cells"), dict) else value
        return {label: float(np.float32(weight)) for label, weight in cells.items()}
