"""A QDQ model of ONNX Runtime beside its integer graph, operation by operation.

ONNX Runtime runs the model without optimizations, every QuantizeLinear's result an output. Each
integer node then gets the codes that ONNX Runtime has in its place, and its result is compared
with ONNX Runtime's. Accumulators of linear layers are compared with its MatMulInteger and
ConvInteger on the codes and weights of the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler import integer_graph as ig
from intformer.compiler.frontend import onnx as frontend
from intformer.compiler.frontend.codings import check_coding
from intformer.compiler.quantize import quantize
from intformer.compiler.quantize.scales import Coding
from intformer.errors import Mismatch

__all__ = ["Comparison", "Difference", "compare"]

Array = NDArray[Any]


@dataclass
class Difference:
    """Codes compared, how many are equal, how many one step apart, the largest distance."""

    codes: int = 0
    equal: int = 0
    one_apart: int = 0
    largest: int = 0

    def add(self, ours: Array, theirs: Array) -> None:
        distance = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        self.codes += distance.size
        self.equal += int((distance == 0).sum())
        self.one_apart += int((distance == 1).sum())
        self.largest = max(self.largest, int(distance.max(initial=0)))

    @property
    def share(self) -> float:
        """Share of equal codes."""
        return self.equal / max(self.codes, 1)


@dataclass
class Comparison:
    """What :func:`compare` found.

    ``operations``: by what ONNX Runtime computes between codes; ``layers``: linear layers whose
    accumulators are equal; ``accumulators``: how many those are.
    """

    operations: dict[str, Difference] = field(default_factory=lambda: defaultdict(Difference))
    layers: set[str] = field(default_factory=set)
    accumulators: int = 0
    outputs: Difference = field(default_factory=Difference)


class _Codes(dict[str, Array]):
    """Codes by the name of the value; ``convolutions``: which of them are convolutions' results."""

    convolutions: frozenset[str] = frozenset()


class _File:
    """A QDQ file: its nodes, its constants, and ONNX Runtime's run of it."""

    def __init__(self, path: Path) -> None:
        import onnx
        import onnxruntime as ort

        self.model = onnx.load(path)
        graph = self.model.graph
        self.constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.quantizers = [n for n in graph.node if n.op_type == "QuantizeLinear"]
        shown = {v.name for v in graph.output}
        for node in self.quantizers:
            if node.output[0] not in shown:
                graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(self.model.SerializeToString(), options)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Codes by the name of the value that is quantized; uint8 codes less 128."""
        names = [node.output[0] for node in self.quantizers]
        values = self.session.run(names, inputs)
        codes = {}
        for node, value in zip(self.quantizers, values, strict=True):
            signed = value.astype(np.int64) - (128 if value.dtype == np.uint8 else 0)
            codes[node.input[0]] = signed
        return codes

    def dequantizer(self, name: str) -> Any:
        """The DequantizeLinear that makes ``name``, or ``None``."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None


def compare(path: str | Path, samples: dict[str, Array]) -> Comparison:
    """Run every sample through both.

    Raises
    ------
    Mismatch
        If an accumulator of a linear layer differs from ONNX Runtime's; names the layer.
    """
    file = _File(Path(path))
    graph = quantize(frontend.load(path), weight_min=-128)
    result = Comparison()
    for i in range(len(next(iter(samples.values())))):
        inputs = {name: array[i] for name, array in samples.items()}
        theirs = file.run(inputs)
        _operations(file, graph, theirs, inputs, result)
        if i == 0:
            _accumulators(file, graph, theirs, inputs, result)
        _outputs(file, graph, theirs, inputs, result)
    return result


def _place(graph: ig.IntGraph, name: str, codes: _Codes) -> Array | None:
    """ONNX Runtime's codes of a tensor, in the tensor's layout."""
    part = re.fullmatch(r"(.*)\[(\d+):(\d+)\]", name)
    base = part[1] if part else name
    if base not in codes:
        return None
    found, shape = codes[base], graph.tensors[name].shape
    if part:
        found = found[..., int(part[2]) : int(part[3])]
    return _laid_out(found, shape, channels_last=base in codes.convolutions)


def _laid_out(found: Array, shape: tuple[int, ...], *, channels_last: bool) -> Array | None:
    """Codes of the file as the integer graph has them; ``None`` if it is not clear how.

    ``channels_last``: it is a convolution's product, which has the channels behind the pixels.
    Others have them there only if they have moved in front of a permutation.
    """
    forms = [found]
    if found.ndim == 4:
        moved = found.transpose(0, 2, 3, 1)
        forms = [moved] if channels_last else [found, moved]
        forms.append(moved.reshape(len(moved), -1, moved.shape[-1]))
    elif found.shape[-1] == shape[-1] and found.size == np.prod(shape):
        forms.append(found.reshape(shape))  # rows, of tokens for instance, as one axis or several
    wanted = [n for n in shape if n != 1]
    for form in forms:
        if [n for n in form.shape if n != 1] == wanted:
            return form.reshape(shape)
    return None


def _find(graph: ig.IntGraph, name: str, codes: _Codes) -> Array | None:
    """As :func:`_place`; if a view of the tensor has the name in the file, through the view."""
    if graph.tensors[name].dtype == "int16":  # a copy, or a sum on its way: the file has 8 bits
        return None
    pending = [(name, np.arange(np.prod(graph.tensors[name].shape, dtype=int)))]
    while pending:
        current, order = pending.pop()
        found = _place(graph, current, codes)
        if found is not None:
            result = np.empty(order.size, found.dtype)
            result[order.reshape(-1)] = found.reshape(-1)
            return result.reshape(graph.tensors[name].shape)
        order = order.reshape(graph.tensors[current].shape)
        for node in graph.nodes:
            if not isinstance(node, ig.View) or node.inputs != [current]:
                continue
            if node.kind in ("permute", "reshape"):
                pending.append((node.output, node.apply(order)))
    base, part = _file_name(name, codes)
    found, shape = codes.get(base), graph.tensors[name].shape
    if found is None or name.endswith("]"):
        return None
    convolution = base in codes.convolutions
    if found.ndim == 4 and (part is not None or convolution) and shape[-1] < found.shape[1]:
        start = min((part or 0) * shape[-1], found.shape[1] - shape[-1])
        return _laid_out(found[:, start : start + shape[-1]], shape, channels_last=True)
    # Lifted in front of a view that another one has cancelled since.
    return _laid_out(found, shape, channels_last=convolution)


def _file_name(name: str, codes: _Codes) -> tuple[str, int | None]:
    """The name in the file of a value that has moved in front of views, and which part it is."""
    part = None
    while name not in codes and (match := re.fullmatch(r"(.+)\.(?:inner|part(\d+)|(\d+))", name)):
        name = match[1]
        number = match[2] or match[3]
        part = int(number) if number is not None else part
    return name, part


def _renamed(file: _File, codes: dict[str, Array]) -> _Codes:
    """Codes also under the names of the outputs that they become."""
    outputs = {v.name for v in file.model.graph.output}
    result = _Codes(codes)
    result.convolutions = frozenset(
        node.output[0] for node in file.model.graph.node if node.op_type == "Conv"
    )
    for name in outputs:
        node = file.dequantizer(name)
        if node is not None and node.input[0] in file.makers:
            result[name] = codes[file.makers[node.input[0]].input[0]]
    return result


def _input_codes(graph: ig.IntGraph, codes: dict[str, Array], inputs: dict[str, Array]) -> Any:
    values = {t.name: np.asarray(t.const) for t in graph.tensors.values() if t.const is not None}
    for name in graph.inputs:
        values[name] = codes[name] if name in codes else np.asarray(inputs[name])
        values[name] = values[name].astype(graph.tensors[name].dtype)
    return values


def _operations(
    file: _File,
    graph: ig.IntGraph,
    theirs: dict[str, Array],
    inputs: dict[str, Array],
    result: Comparison,
) -> None:
    """Every node on ONNX Runtime's codes."""
    theirs = _renamed(file, theirs)
    values = _input_codes(graph, theirs, inputs)
    replaced = set(graph.meta["replaced_codings"])
    for node in graph.nodes:
        made = ig._EXECUTE[type(node)](node, values)
        tensor = graph.tensors[node.output]
        values[node.output] = np.ascontiguousarray(made).astype(tensor.dtype)
        want = None if isinstance(node, ig.View) else _find(graph, node.output, theirs)
        if want is None:
            continue
        if node.output in replaced:
            ours = _probability(file, node.output).encode(values[node.output] / 256.0)
            result.operations["Softmax"].add(ours, want)
            continue
        result.operations[_label(file, graph, node, theirs)].add(values[node.output], want)
        values[node.output] = want.astype(tensor.dtype)


def _probability(file: _File, name: str) -> Coding:
    """The file's coding of a softmax result."""
    node = next(q for q in file.quantizers if q.input[0] == name)
    scale, zero = (file.constants[n] for n in node.input[1:])
    return check_coding(str(zero.dtype), float(scale), int(zero))


def _label(file: _File, graph: ig.IntGraph, node: ig.Node, codes: _Codes) -> str:
    """What ONNX Runtime computes where the node stands."""
    name, _ = _file_name(node.output.partition("[")[0], codes)
    maker = file.makers.get(name)
    if maker is not None and maker.op_type == "DequantizeLinear":
        maker = file.makers[file.makers[maker.input[0]].input[0]]
    op = maker.op_type if maker is not None else type(node).__name__
    if isinstance(node, ig.MatMul):
        if graph.tensors[node.inputs[1]].const is not None and op in ("MatMul", "Gemm", "Conv"):
            return f"{op}, constant weights"
        if op == "MatMul":
            of_softmax = _reads(graph, node.inputs[0], set(graph.meta["replaced_codings"]))
            return "MatMul of probabilities" if of_softmax else "MatMul of two computed tensors"
    if isinstance(node, ig.MatMul | ig.Pointwise) and node.post.table is not None:
        if op == "Mul" and _of_sigmoid(file, maker):
            return "SiLU"
        return "GELU" if op in ("Mul", "Gelu") else op
    if op == "Add" and isinstance(node, ig.Pointwise):
        return "Add"
    return op


def _of_sigmoid(file: _File, node: Any) -> bool:
    """Whether one of the factors is a quantized sigmoid."""
    for name in node.input:
        source = file.dequantizer(name)
        if source is not None and source.input[0] in file.makers:
            made = file.makers.get(file.makers[source.input[0]].input[0])
            if made is not None and made.op_type == "Sigmoid":
                return True
    return False


def _reads(graph: ig.IntGraph, name: str, wanted: set[str]) -> bool:
    """Whether a tensor is one of ``wanted``, or views of one."""
    views = {node.output: node for node in graph.nodes if isinstance(node, ig.View)}
    pending = [name]
    while pending:
        current = pending.pop()
        if current in wanted:
            return True
        if current in views:
            pending += views[current].inputs
    return False


def _outputs(
    file: _File,
    graph: ig.IntGraph,
    theirs: dict[str, Array],
    inputs: dict[str, Array],
    result: Comparison,
) -> None:
    """The whole model from its inputs on."""
    theirs = _renamed(file, theirs)
    start = _input_codes(graph, theirs, inputs)
    values = ig.execute(graph, {name: start[name] for name in graph.inputs})
    for name in graph.outputs:
        want = _place(graph, name, theirs)
        if want is not None:
            result.outputs.add(values[name], want)


def _accumulators(
    file: _File,
    graph: ig.IntGraph,
    theirs: dict[str, Array],
    inputs: dict[str, Array],
    result: Comparison,
) -> None:
    """Accumulators of the linear layers, bias included, against ONNX Runtime's integer products."""
    theirs = _renamed(file, theirs)
    values = _input_codes(graph, theirs, inputs)
    ours: dict[str, list[tuple[int, Array]]] = defaultdict(list)
    for node in graph.nodes:
        if isinstance(node, ig.MatMul) and graph.tensors[node.inputs[1]].const is not None:
            a, b = (values[name] for name in node.inputs)
            base, _, start = node.output.partition("[")
            acc = reference.matmul(a, b) + node.post.bias
            ours[base].append((int(start.partition(":")[0] or 0), acc.reshape(-1, acc.shape[-1])))
        made = ig._EXECUTE[type(node)](node, values)
        want = None if isinstance(node, ig.View) else _find(graph, node.output, theirs)
        use = (
            want if want is not None and node.output not in graph.meta["replaced_codings"] else made
        )
        values[node.output] = np.ascontiguousarray(use).astype(graph.tensors[node.output].dtype)
    for name in list(ours):  # a grouped convolution has several products
        whole, _, number = name.rpartition(".")
        if number.isdigit() and whole in ours and _rows(graph, name) == _rows(graph, whole):
            ours[whole] += [(1 + int(number), acc) for _, acc in ours.pop(name)]
    for node in file.model.graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Conv"):
            continue
        expected = _integer_product(file, node, theirs)
        if expected is None:
            continue
        names = [n for n in (node.output[0], *_output_names(file, node)) if n in ours]
        if not names:
            raise Mismatch(f"{node.name}: no linear layer of the integer graph stands for it")
        parts = sorted(ours[names[0]], key=lambda part: part[0])
        mine = np.concatenate([acc for _, acc in parts], axis=1)
        if mine.shape != expected.shape or not (mine == expected).all():
            wrong = "shape" if mine.shape != expected.shape else int((mine != expected).sum())
            raise Mismatch(f"{node.name}: {wrong} of {expected.size} accumulators differ")
        result.layers.add(node.name)
        result.accumulators += expected.size


def _rows(graph: ig.IntGraph, name: str) -> tuple[int, ...]:
    return graph.tensors[name].shape[:-1]


def _output_names(file: _File, node: Any) -> list[str]:
    """Names of model outputs that are the quantized result of ``node``."""
    return [
        value.name
        for value in file.model.graph.output
        if (d := file.dequantizer(value.name)) is not None
        and d.input[0] in file.makers
        and file.makers[d.input[0]].input[0] == node.output[0]
    ]


def _integer_product(file: _File, node: Any, codes: dict[str, Array]) -> Array | None:
    """ONNX Runtime's integer product for a linear layer, plus its int32 bias: ``[rows, N]``."""
    import onnx
    import onnxruntime as ort

    left, right = (file.dequantizer(name) for name in node.input[:2])
    if left is None or right is None or right.input[0] not in file.constants:
        return None
    quantizer = file.makers[left.input[0]]
    signed = codes[quantizer.input[0]]
    weights, zero = file.constants[right.input[0]], file.constants[right.input[2]]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if attributes.pop("transB", 0):
        weights = np.ascontiguousarray(weights.T)
    # uint8 for both, which the integer products take with every zero point.
    a = (signed + 128).astype(np.uint8)
    a_zero = np.uint8(int(file.constants[left.input[2]]) + (128 if _is_int8(file, left) else 0))
    if weights.dtype == np.int8:
        weights, zero = (weights.astype(int) + 128, zero.astype(int) + 128)
    w, w_zero = np.asarray(weights, np.uint8), np.asarray(zero, np.uint8)
    op = "ConvInteger" if node.op_type == "Conv" else "MatMulInteger"
    kept = {k: v for k, v in attributes.items() if op == "ConvInteger"}
    if op == "ConvInteger":  # zero points per channel are not taken there: all the same here
        if np.unique(w_zero).size != 1:
            raise Mismatch(f"{node.name}: zero points differ by channel")
        w_zero = np.ravel(w_zero)[0]
    names = ["a", "w", "a_zero", "w_zero"]
    arrays = dict(zip(names, (a, w, np.asarray(a_zero), np.asarray(w_zero)), strict=True))
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, v.shape)
        for n, v in arrays.items()
    ]
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)
    product = onnx.helper.make_node(op, names, ["y"], **kept)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([product], "product", infos, [result]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (y,) = ort.InferenceSession(model.SerializeToString()).run(["y"], arrays)
    y = y.transpose(0, 2, 3, 1) if op == "ConvInteger" else y
    y = y.reshape(-1, y.shape[-1]).astype(np.int64)
    if len(node.input) > 2:
        bias = file.dequantizer(node.input[2])
        if bias is None or file.constants[bias.input[0]].dtype != np.int32:
            raise Mismatch(f"{node.name}: its bias is not int32")
        y = y + file.constants[bias.input[0]]
    return y


def _is_int8(file: _File, dequantizer: Any) -> bool:
    return file.constants[dequantizer.input[2]].dtype == np.int8
