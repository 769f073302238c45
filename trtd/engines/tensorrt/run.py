"""Running a TensorRT engine on named arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from trtd.engines.digests import read_unchanged
from trtd.engines.feeds import check_feeds
from trtd.engines.protocol import Arrays
from trtd.engines.tensorrt.cuda import Buffer, Graph, Scratch, Stream, free_bytes, take_device
from trtd.engines.tensorrt.errors import load_error, no_gpu, plain
from trtd.engines.tensorrt.flavours import Flavour
from trtd.engines.tensorrt.kernels import KernelCache
from trtd.engines.tensorrt.layers import Layers, make_profiler, read_layers
from trtd.engines.tensorrt.log import listen
from trtd.errors import EngineError
from trtd.model.facts import TensorFacts

Array = np.ndarray[Any, Any]
Shapes = tuple[tuple[int, ...], ...]

# A graph is recorded once a shape has come this often: before, kernels may still be chosen.
RUNS_BEFORE_GRAPH = 2
# Shapes that keep their memory and their graph; the one not used for longest makes room.
SHAPES_KEPT = 8


class TensorRTRunner:
    """An engine with its device memory.

    Inputs are staged in pinned memory. A shape that comes again is replayed as one CUDA graph.

    Args:
        path: the engine file.
        digest: ``sha256:…`` that its bytes must have. They are compared before TensorRT sees them: deserializing an
            engine is running foreign code.
        capabilities: compute capabilities that it was built for; none: of whichever GPU is first.
        kernels: file of compiled kernels to read and to add to, for flavours that compile when they load.
        graphs: record CUDA graphs.

    Attributes:
        memory_bytes: device memory that the engine, its context and its inputs and outputs took.

    Raises:
        RegistryError: the file has other bytes.
        EnvironmentMissing: TensorRT, CUDA or the GPU is not there.
        EngineError: the engine is for another GPU or version.
    """

    def __init__(
        self,
        path: Path,
        flavour: Flavour,
        *,
        digest: str,
        capabilities: Sequence[str] = (),
        kernels: Path | None = None,
        graphs: bool = True,
    ) -> None:
        plan = read_unchanged(path, digest)
        trt = flavour.load()
        self._trt, self._name = trt, f"{flavour.module} {trt.__version__}"
        self.gpu = take_device(capabilities)
        free_before = free_bytes()
        logger, self._kept = listen(trt)
        self._runtime = trt.Runtime(logger)
        if self._runtime is None:
            raise no_gpu(self._name)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise load_error(self._name, self._kept.errors, str(path))
        self._kernels = KernelCache(trt, self._engine, kernels) if flavour.compiles_on_load else None
        self._context = (
            self._engine.create_execution_context()
            if self._kernels is None
            else self._engine.create_execution_context(self._kernels.config)
        )
        if self._context is None:
            raise load_error(self._name, self._kept.errors, str(path))
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._inputs = tuple(self._facts(n) for n in names if modes[n] == trt.TensorIOMode.INPUT)
        self._outputs = tuple(self._facts(n) for n in names if modes[n] == trt.TensorIOMode.OUTPUT)
        self._stream = Stream()
        self._graphs = graphs
        self.memory_bytes = free_before - free_bytes()
        self._prepared: OrderedDict[Shapes, _Prepared] = OrderedDict()

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        return self._outputs

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """Run once, from host memory to host memory.

        Raises:
            EngineError: an input does not fit, or its shape lies outside the profile.
        """
        prepared = self._prepare(feeds)
        prepared.upload(feeds, self._stream)
        self._enqueue(prepared)
        return prepared.download(self._stream)

    def time_on_device(self, feeds: Arrays, runs: int) -> list[float]:
        """Milliseconds of each run on the device alone, inputs lying there already, from CUDA event to event."""
        prepared = self._prepare(feeds)
        prepared.upload(feeds, self._stream)
        for _ in range(RUNS_BEFORE_GRAPH + 1):
            self._enqueue(prepared)
        self._stream.wait()
        return [self._stream.time_ms(lambda: self._enqueue(prepared)) for _ in range(runs)]

    def layers(self, quantized: Collection[str], feeds: Arrays, runs: int) -> Layers:
        """What the engine consists of, and the time of each layer on the device, the mean of some runs.

        Args:
            quantized: names of the graph's nodes that Q/DQ was written around.
        """
        shapes = tuple(feeds[i.name].shape for i in self._inputs)
        prepared = self._prepare(feeds)
        prepared.upload(feeds, self._stream)
        self._bind(shapes, prepared)
        times_ms: dict[str, float] = {}
        self._context.profiler = make_profiler(self._trt, times_ms)  # graphs tell no profiler anything
        for _ in range(runs):
            self._execute()
            self._stream.wait()
        return read_layers(self._trt, self._engine, quantized, {name: ms / runs for name, ms in times_ms.items()})

    def close(self) -> None:
        """Free the device memory, and keep what was compiled. More often than once is as good as once."""
        if self._engine is None:
            return
        for prepared in self._prepared.values():
            prepared.free()
        self._prepared.clear()
        if self._kernels is not None:
            self._kernels.save()
        self._stream.close()
        self._context = self._engine = self._runtime = None

    def _facts(self, name: str) -> TensorFacts:
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        shape = tuple(None if d < 0 else int(d) for d in self._engine.get_tensor_shape(name))
        return TensorFacts(name=name, dtype=str(dtype), shape=shape)

    def _prepare(self, feeds: Arrays) -> _Prepared:
        """Memory for the shapes of ``feeds``, and the context bound to it unless a graph replays them."""
        check_feeds(self._inputs, feeds)
        shapes = tuple(feeds[i.name].shape for i in self._inputs)
        found = self._prepared.get(shapes)
        if found is None:
            if len(self._prepared) == SHAPES_KEPT:
                self._prepared.popitem(last=False)[1].free()
            free_before = free_bytes()
            found = self._prepared[shapes] = self._make(shapes)
            self.memory_bytes += free_before - free_bytes()
        self._prepared.move_to_end(shapes)
        if found.graph is None:
            self._bind(shapes, found)
        return found

    def _bind(self, shapes: Shapes, prepared: _Prepared) -> None:
        """Set the context to these shapes and this memory."""
        self._set_shapes(shapes)
        for name, buffer in prepared.buffers.items():
            self._context.set_tensor_address(name, buffer.address)
        if prepared.scratch is not None:
            self._context.update_device_memory_size_for_shapes()
            self._context.set_device_memory(prepared.scratch.address, prepared.scratch.nbytes)

    def _make(self, shapes: Shapes) -> _Prepared:
        self._set_shapes(shapes)
        with ExitStack() as taken:  # what was taken before the memory ran out is given back
            buffers: dict[str, Buffer] = {}
            for facts, shape in zip((*self._inputs, *self._outputs), (*shapes, *self._output_shapes()), strict=True):
                buffers[facts.name] = Buffer(shape, np.dtype(facts.dtype))
                taken.callback(buffers[facts.name].free)
            scratch = None if self._kernels is None else Scratch(self._context.update_device_memory_size_for_shapes())
            taken.pop_all()
        return _Prepared(buffers, tuple(o.name for o in self._outputs), scratch)

    def _output_shapes(self) -> Iterator[tuple[int, ...]]:
        for facts in self._outputs:
            shape = tuple(int(d) for d in self._context.get_tensor_shape(facts.name))
            if -1 in shape:
                raise EngineError(
                    f"the shape of the output {facts.name} depends on the data",
                    where=facts.name,
                    hint='export the model without its last, data-dependent step, or use target = "onnxruntime-cpu"',
                )
            yield shape

    def _set_shapes(self, shapes: Shapes) -> None:
        for facts, shape in zip(self._inputs, shapes, strict=True):
            low, _, high = (tuple(s) for s in self._engine.get_tensor_profile_shape(facts.name, 0))
            if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
                raise EngineError(
                    f"input {facts.name!r} has shape {list(shape)}, and the engine was built for "
                    f"{list(low)} to {list(high)}",
                    where=facts.name,
                    hint=f"feed another size, or widen min and max in [model.inputs.{facts.name}] and build again",
                )
            self._context.set_input_shape(facts.name, shape)

    def _enqueue(self, prepared: _Prepared) -> None:
        """Give the stream one run to do; records it as a graph once its shape has come often enough."""
        if prepared.graph is not None:
            prepared.graph.launch(self._stream)
            return
        if self._graphs and prepared.runs == RUNS_BEFORE_GRAPH:
            prepared.graph = self._record()
            if prepared.graph is not None:
                prepared.graph.launch(self._stream)
                return
        prepared.runs += 1
        self._execute()

    def _record(self) -> Graph | None:
        """One run as a graph; ``None`` where part of it cannot be recorded, as branches and loops cannot."""
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self._stream.handle):
            return None
        self._stream.wait()
        return self._stream.capture(self._execute)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            last = plain(self._kept.errors[-1]) if self._kept.errors else "it does not say why"
            raise EngineError(f"{self._name} failed: {last}", hint="the build log has all that it said")


class _Prepared:
    """Memory and, later, a graph for one set of input shapes."""

    def __init__(self, buffers: dict[str, Buffer], outputs: tuple[str, ...], scratch: Scratch | None) -> None:
        self.buffers = buffers
        self.scratch = scratch
        self.outputs = outputs
        self.graph: Graph | None = None
        self.runs = 0

    def upload(self, feeds: Arrays, stream: Stream) -> None:
        for name, array in feeds.items():
            buffer = self.buffers[name]
            np.copyto(buffer.host, array)
            buffer.upload(stream.handle)

    def download(self, stream: Stream) -> dict[str, Array]:
        for name in self.outputs:
            self.buffers[name].download(stream.handle)
        stream.wait()
        return {name: self.buffers[name].host.copy() for name in self.outputs}

    def free(self) -> None:
        if self.graph is not None:
            self.graph.free()
        for buffer in self.buffers.values():
            buffer.free()
        if self.scratch is not None:
            self.scratch.free()
