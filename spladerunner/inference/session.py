"""A graph opened with onnxruntime, on the providers that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from spladerunner.inference import arena  # before onnxruntime, which reads the environment at import

# isort: split
import onnxruntime

from spladerunner.errors import ModelFilesError, ProviderError
from spladerunner.inference.fork import destroy, native_lock
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.log import debug

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

CPU = "CPUExecutionProvider"
ONNXRUNTIME_VERSION: str = onnxruntime.__version__

SLOWER_FUSIONS = ("SkipLayerNormFusion",)
"""Optimizers that make a graph slower: on CPUs, onnxruntime's one operator for a sum and its layer normalization takes
several times as long as its operators for the two (benchmarks/lab/README.md)."""

_INPUTS = {
    "input_ids": "ids",
    "attention_mask": "mask",
    "token_type_ids": "type_ids",
    # names in graphs that were converted by other tools than optimum
    "input_mask": "mask",
    "segment_ids": "type_ids",
}

_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


def check_providers(providers: Sequence[str]) -> None:
    """Raises ProviderError if none is named, or the installed onnxruntime lacks one of them."""
    available = onnxruntime.get_available_providers()
    missing = [name for name in providers if name not in available]
    if missing or not providers:
        raise ProviderError(
            f"providers={list(providers)!r} are not available: this onnxruntime has {available}. "
            "For CUDA, install onnxruntime-gpu instead of onnxruntime.",
            providers=missing,
            available=available,
        )


class Session:
    """A graph that turns a TokenizedText into logits (1, L, V), or into weights (1, V) if it pools inside.

    path: of the graph. content: of its file, and initializers: its tensors from other files, by name; without content,
    onnxruntime opens path and the files that it names.

    Each run takes one thread. The same input gives the same output, bit for bit, from any thread.
    Raises ModelFilesError if the graph cannot be read or is not a masked language model, ProviderError if a provider
    that was asked for did not start.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        providers: Sequence[str] = (CPU,),
        *,
        content: bytes | None = None,
        initializers: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> None:
        check_providers(providers)
        self.path = path
        self._initializers = initializers  # onnxruntime reads them where they are, as long as the session exists
        self._on_cpu = list(providers) == [CPU]
        options = onnxruntime.SessionOptions()
        # Texts run at the same time, one thread each: faster than many threads on one text.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised
        # onnxruntime would keep a pattern for every length, and each length has its own.
        options.enable_mem_pattern = False
        arena.register_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        saturates = arena.products_saturate()
        if saturates:
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            with native_lock():
                options.add_external_initializers(
                    [*initializers], [*map(onnxruntime.OrtValue.ortvalue_from_numpy, initializers.values())]
                )
                self._session = onnxruntime.InferenceSession(
                    str(path) if content is None else content,
                    options,
                    providers=list(providers),
                    disabled_optimizers=list(SLOWER_FUSIONS),
                )
        except Exception as error:  # onnxruntime's errors share no narrower type
            raise ModelFilesError(
                f"{path} cannot be opened by onnxruntime {ONNXRUNTIME_VERSION}: {error}. "
                "Fetch or export the model again.",
                path=path,
            ) from error
        self._session._model_bytes = None  # onnxruntime has read them, and would keep them
        started = self._session.get_providers()
        if absent := [name for name in providers if name not in started]:
            raise ProviderError(
                f"{absent} did not start: onnxruntime opened {path} with {started} only.",
                providers=absent,
                available=started,
            )
        self._inputs = [node.name for node in self._session.get_inputs()]
        if "input_ids" not in self._inputs or not set(self._inputs) <= set(_INPUTS):
            raise ModelFilesError(
                f"{path} takes the inputs {self._inputs}; a masked language model takes input_ids and others of "
                f"{sorted(_INPUTS)}.",
                path=path,
                expected=sorted(_INPUTS),
                found=self._inputs,
            )
        outputs = self._session.get_outputs()
        output = next((each for each in outputs if each.name == "logits"), outputs[0])
        self._output = output.name
        if output.type not in _FLOATS:
            raise ModelFilesError(
                f"{path} has the output {output.name} of type {output.type}; logits are one of {', '.join(_FLOATS)}.",
                path=path,
                expected=_FLOATS,
                found=output.type,
            )
        if len(output.shape) not in (2, 3):
            raise ModelFilesError(
                f"{path} has the output {output.name} of shape {output.shape}, not logits (B, L, V) or weights (B, V).",
                path=path,
                expected="(B, L, V) or (B, V)",
                found=output.shape,
            )
        self.pools_inside: bool = len(output.shape) == 2
        self.vocabulary_size: int | None = output.shape[-1] if isinstance(output.shape[-1], int) else None
        debug(
            __name__,
            "opened %s with onnxruntime %s on %s: one thread a run, exact int8 products %s, output %s %s",
            path,
            ONNXRUNTIME_VERSION,
            started,
            "by option" if saturates else "by default",
            output.name,
            output.shape,
        )

    def __del__(self) -> None:
        destroy(
            [self.__dict__.pop("_session", None), self.__dict__.pop("_initializers", None)]
        )  # destroying a session takes the arena's lock

    def run(self, text: TokenizedText) -> NDArray[np.floating]:
        """Logits (1, L, V), or weights (1, V) if pools_inside. Raises ModelFilesError if the graph fails."""
        feeds = {name: getattr(text, _INPUTS[name]) for name in self._inputs}
        options = arena.run_options(text.ids.size * (self.vocabulary_size or 1)) if self._on_cpu else None
        try:
            with native_lock():
                output: NDArray[np.floating] = self._session.run([self._output], feeds, options)[0]
        except Exception as error:  # onnxruntime's errors share no narrower type
            raise ModelFilesError(
                f"{self.path} failed on {text.ids.shape[1]} tokens; if the model accepts fewer, give a smaller "
                f"max_length. onnxruntime says: {error}",
                path=self.path,
            ) from error
        return output
