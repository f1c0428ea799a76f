"""A graph opened with onnxruntime, on the providers that were asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spladerunner.inference import arena  # before onnxruntime, which reads the environment at import

# isort: split
import onnxruntime

from spladerunner.errors import ModelFilesError
from spladerunner.inference.arena import ONNXRUNTIME_VERSION
from spladerunner.inference.fork import destroy, native_lock
from spladerunner.inference.providers import (
    CPU,
    Device,
    Provider,
    check_providers,
    device_of,
    load_libraries,
    not_started,
    provider_name,
)
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.log import debug

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

    from spladerunner.inference.batches import Batch

SLOWER_FUSIONS = ("SkipLayerNormFusion",)
"""Optimizers that make a graph slower: on CPUs, onnxruntime's one operator for a sum and its layer normalization is
slower than its operators for the two (benchmarks/lab/README.md)."""

LARGEST_LOGITS = "largest_logits"
"""Name of the output of a graph that keeps the largest logits over the positions alone, (1, 1, V)."""

_INPUTS = {
    "input_ids": "ids",
    "attention_mask": "mask",
    "token_type_ids": "type_ids",
    # names in graphs that were converted by other tools than optimum
    "input_mask": "mask",
    "segment_ids": "type_ids",
}

_FLOATS: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
}

_PROVIDER_FAILURES = ("EP Error", "CUDA", "CUDNN", "cuDNN", "TensorRT", "HIP", "DirectML")
"""Parts of onnxruntime's messages when a provider cannot start."""

_MEMORY_FAILURES = ("Failed to allocate memory", "out of memory", "smaller than requested bytes")
"""Parts of onnxruntime's messages when a run needs more memory than a device has."""

_MOST_SHAPES = 64
"""Shapes of batches whose inputs stay bound on the device."""


class DeviceMemoryError(ModelFilesError):
    """A batch does not fit into the memory of its device."""


class BoundInputs(NamedTuple):
    """Inputs of batches of one shape: each on the device, and in the host's memory that it is copied from."""

    binding: onnxruntime.IOBinding
    inputs: dict[str, tuple[onnxruntime.OrtValue, NDArray[np.int64]]]


class Session:
    """A graph that turns a TokenizedText into logits (1, L, V), or into weights (1, V) if it pools inside.

    path: of the graph. content: of its file, and initializers: its tensors from other files, by name; without content,
    onnxruntime opens path and the files that it names.
    device: where a graph that pools inside runs batches; by default the GPU of the first provider, if it is one's.

    Each run takes one thread. On the CPU the same input gives the same output, bit for bit, from any thread.
    Raises ModelFilesError if the graph cannot be read or is not a masked language model, ProviderError if a provider
    that was asked for did not start.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        providers: Sequence[Provider] = (CPU,),
        *,
        content: bytes | None = None,
        initializers: Mapping[str, NDArray[Any]] = MappingProxyType({}),
        device: Device | None = None,
    ) -> None:
        check_providers(providers)
        self.path = path
        self._initializers = initializers  # onnxruntime reads them where they are, as long as the session exists
        names = [provider_name(each) for each in providers]
        self._on_cpu = names == [CPU]
        on_gpu = device_of(providers) is not None
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
        missing = load_libraries(providers)
        try:
            with native_lock():
                options.add_external_initializers(
                    [*initializers], [*map(onnxruntime.OrtValue.ortvalue_from_numpy, initializers.values())]
                )
                self._session = onnxruntime.InferenceSession(
                    str(path) if content is None else content,
                    options,
                    providers=list(providers),
                    # The fusions are slower on CPUs alone.
                    disabled_optimizers=[] if on_gpu else list(SLOWER_FUSIONS),
                    enable_fallback=0,  # to the CPU, with a message on standard output
                )
        except Exception as error:  # onnxruntime's errors share no narrower type
            if on_gpu and any(sign in str(error) for sign in _PROVIDER_FAILURES):
                raise not_started(names[:1], [CPU], path, f"{missing} {error}".strip()) from error
            raise ModelFilesError(
                f"{path} cannot be opened by onnxruntime {ONNXRUNTIME_VERSION}: {error}. "
                "Fetch or export the model again.",
                path=path,
            ) from error
        self._session._model_bytes = None  # onnxruntime has read them, and would keep them
        started = self._session.get_providers()
        if absent := [name for name in names if name not in started]:
            raise not_started(absent, started, path, missing)
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
                expected=tuple(_FLOATS),
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
        self.keeps_largest: bool = output.name == LARGEST_LOGITS
        self.vocabulary_size: int | None = output.shape[-1] if isinstance(output.shape[-1], int) else None
        self.output_type: np.dtype[Any] = _FLOATS[output.type]
        masked = {"attention_mask", "input_mask"} & {*self._inputs}
        batches = self.pools_inside and masked and self.vocabulary_size is not None
        self.device = (device or device_of(providers)) if batches else None
        self._on_device = threading.Lock()
        self._bound: dict[tuple[int, ...], BoundInputs] = {}
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
            [self.__dict__.pop(name, None) for name in ("_bound", "_session", "_initializers")]
        )  # destroying a session takes the arena's lock

    def run(self, text: TokenizedText) -> NDArray[np.floating]:
        """Logits (1, L, V), (1, 1, V) if keeps_largest, or weights (1, V) if pools_inside.

        Raises ModelFilesError if the graph fails.
        """
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

    def run_batch(self, batch: Batch, weights: NDArray[np.floating]) -> None:
        """Writes the weights of a batch to an array of the host, (B, V) of output_type. One batch runs at a time.

        Raises DeviceMemoryError if the batch does not fit into the device's memory, ModelFilesError if the graph fails.
        """
        try:
            with self._on_device, native_lock():
                binding = self._bind(batch)
                binding.bind_output(self._output, "cpu", 0, weights.dtype, weights.shape, weights.ctypes.data)
                self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's errors share no narrower type
            rows, length = batch.ids.shape
            kind = DeviceMemoryError if any(sign in str(error) for sign in _MEMORY_FAILURES) else ModelFilesError
            raise kind(f"{self.path} failed on {rows} texts of {length} tokens: {error}", path=self.path) from error

    def _bind(self, batch: Batch) -> onnxruntime.IOBinding:
        """Copies the inputs to the device; memory and binding for batches of this shape are kept for the next."""
        from spladerunner.inference.host_memory import allocate  # CPUs start without

        assert self.device is not None
        shape = batch.ids.shape
        if shape not in self._bound:
            if len(self._bound) >= _MOST_SHAPES:
                self._bound.clear()
            bound = BoundInputs(self._session.io_binding(), {})
            for name in self._inputs:
                value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                    list(shape), np.int64, self.device.type, self.device.id
                )
                bound.binding.bind_ortvalue_input(name, value)
                bound.inputs[name] = value, allocate(8 * batch.ids.size, self.device).view(np.int64).reshape(shape)
            self._bound[shape] = bound
        bound = self._bound[shape]
        for name, (value, staged) in bound.inputs.items():
            staged[:] = getattr(batch, _INPUTS[name])
            value.update_inplace(staged)
        return bound.binding
