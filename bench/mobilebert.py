"""MobileBERT in its real size: does it compile, how large is it, is it exact?

The configuration is that of ``google/mobilebert-uncased`` (Sun et al., 2020); the weights are
random, so accuracy is not measured here. Part of ``make bench-hybrid``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from intformer.compiler import integer_graph as ig
from intformer.compiler.backend import build_program
from intformer.compiler.frontend import torch_export
from intformer.compiler.graph import Graph
from intformer.compiler.quantize import quantize
from intformer.config import CoreConfig
from intformer.model import CompiledModel

__all__ = ["CONFIG", "LARGE", "MIXED", "SCHEMES", "bert_large_bytes", "measure", "mobilebert"]

CONFIG = {
    "vocab_size": 30522,
    "hidden_size": 512,
    "num_hidden_layers": 24,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "hidden_act": "relu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "embedding_size": 128,
    "trigram_input": True,
    "use_bottleneck": True,
    "use_bottleneck_attention": False,
    "key_query_shared_bottleneck": True,
    "intra_bottleneck_size": 128,
    "num_feedforward_networks": 4,
    "normalization_type": "no_norm",
}
"""``google/mobilebert-uncased``."""

BERT_LARGE = {
    "vocab_size": 30522,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}

LARGE = CoreConfig(
    name="simulation",
    rows=32,
    cols=32,
    lanes=16,
    bus_bytes=16,
    act_words=1 << 16,
    wide_words=1 << 15,
    acc_depth=256,
    param_groups=512,
)
"""A core for the simulator alone: nothing ever has to leave its memories."""
SMALL = CoreConfig(
    name="small", rows=8, cols=8, lanes=4, bus_bytes=8, act_words=1 << 14, wide_words=1 << 14
)
"""A core that a Verilog simulator is quick with."""

MIXED = {"*.ffn.*": {"weights": "int4"}, "*.intermediate.*": {"weights": "int4"}}
"""INT4 in the feed-forward networks, INT8 in attention and bottlenecks."""
SCHEMES: dict[str, dict[str, Any]] = {
    "INT8": {"weights": "int8"},
    "INT4": {"weights": "int4"},
    "mixed": {"weights": "int8", "overrides": MIXED},
}

Progress = Callable[[str], None]


def mobilebert(*, layers: int, tokens: int) -> tuple[Graph, int]:
    """Float graph of the encoder, ids ``[1, tokens]`` to hidden states; and its parameters."""
    import torch
    from transformers import MobileBertConfig, MobileBertModel

    torch.manual_seed(0)
    config = MobileBertConfig(**CONFIG | {"num_hidden_layers": layers})
    model = MobileBertModel(config, add_pooling_layer=False).eval()
    for name, parameter in model.named_parameters():  # initialized alike, and biases to 0
        if parameter.ndim == 1:
            center = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            torch.nn.init.normal_(parameter, center, 0.05)

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=ids).last_hidden_state

    ids = torch.zeros(1, tokens, dtype=torch.int64)
    count = sum(parameter.numel() for parameter in model.parameters())
    return torch_export.load((Encoder(), (ids,))), count


def bert_large_bytes() -> int:
    """Bytes of BERT-Large's encoder in FP32, pooler included."""
    import torch
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        model = BertModel(BertConfig(**BERT_LARGE))
    return 4 * sum(parameter.numel() for parameter in model.parameters())


def storage(model: CompiledModel) -> dict[str, int]:
    """Bytes of the memory image by what they hold."""
    kinds = {"weights": "weights", "table": "embeddings and tables", "params": "parameters"}
    result: dict[str, int] = {}
    for region in model.program.regions:
        if region.name.startswith(("input ", "output ")):
            continue
        suffix = region.name.rpartition(".")[2]
        kind = "program" if region.name == "program" else kinds.get(suffix, "constants")
        result[kind] = result.get(kind, 0) + region.size
    return result


def model_bytes(graph: ig.IntGraph) -> int:
    """Bytes of the model itself: weights, bias and rescaling of each channel, embeddings.

    Without the padding of the memory image and without the program.
    """
    total, seen = 0, set()
    for node in graph.nodes:
        post = getattr(node, "post", None)
        addend = [post.residual] if post is not None and post.residual is not None else []
        for name in [*node.inputs, *addend]:
            tensor = graph.tensors[name]
            if tensor.const is None or name in seen:
                continue
            seen.add(name)
            bits = 8 * np.dtype(tensor.dtype).itemsize
            if isinstance(node, ig.MatMul) and name == node.inputs[1]:
                bits = node.weight_bits
            total += tensor.const.size * bits // 8
        if post is not None:
            total += post.bias.size * 4 + post.mult.size * 2 + post.shift.size
            total += 0 if post.table is None else 256
        if isinstance(node, ig.Softmax):
            total += 4 * node.exp_table.size
    return total


def ids_of(tokens: int, samples: int) -> dict[str, np.ndarray]:
    """Random token ids."""
    rng = np.random.default_rng(0)
    return {"ids": rng.integers(0, CONFIG["vocab_size"], (samples, 1, tokens))}


def measure(
    progress: Progress, *, layers: int = 24, tokens: int = 16, rtl_layers: int = 2
) -> dict[str, Any]:
    """All figures; ``ok`` tells whether every tensor was equal."""
    floats, parameters = mobilebert(layers=layers, tokens=tokens)
    large = bert_large_bytes()
    figures: dict[str, Any] = {
        "layers": layers,
        "tokens": tokens,
        "parameters": parameters,
        "fp32_bytes": 4 * parameters,
        "bert_large_fp32_bytes": large,
        "core": LARGE.to_dict(),
        "schemes": {},
        "ok": True,
    }
    samples = ids_of(tokens, 4)
    for name, options in SCHEMES.items():
        progress(f"MobileBERT, {layers} blocks, {tokens} tokens, weights {name}")
        start = time.perf_counter()
        graph = quantize(floats, samples, **options)
        model = CompiledModel(graph=graph, program=build_program(graph, LARGE))
        seconds = time.perf_counter() - start
        report = model.verify({"ids": samples["ids"][0]}, levels=("iss",))
        (entry,) = report.figures()["levels"].values()
        size = model_bytes(graph)
        figures["ok"] &= report.ok
        figures["schemes"][name] = {
            "model_bytes": size,
            "smaller_than_bert_large": round(large / size, 1),
            "image_bytes": storage(model),
            "compile_seconds": round(seconds, 1),
            "macs": graph.macs(),
            "instructions": len(model.program.steps),
            **{k: entry[k] for k in ("tensors_compared", "elements_compared", "mismatches")},
            "cycles": entry["cycles_per_run"],
            "utilization": entry["utilization"],
        }
    figures["rtl"] = _on_rtl(progress, layers=rtl_layers, tokens=8)
    figures["ok"] &= figures["rtl"].pop("ok")
    return figures


def _on_rtl(progress: Progress, *, layers: int, tokens: int) -> dict[str, Any]:
    """The first blocks, with all of the embedding, in Verilator."""
    progress(f"MobileBERT, the first {layers} blocks, {tokens} tokens, in RTL")
    floats, _ = mobilebert(layers=layers, tokens=tokens)
    samples = ids_of(tokens, 4)
    graph = quantize(floats, samples, **SCHEMES["mixed"])
    model = CompiledModel(graph=graph, program=build_program(graph, SMALL))
    report = model.verify({"ids": samples["ids"][0]}, levels=("iss", "rtl"), progress=progress)
    entry = report.figures()["levels"]["rtl"]
    names = ("tensors_compared", "elements_compared", "mismatches", "cycles_per_run")
    return {
        "ok": report.ok,
        "layers": layers,
        "tokens": tokens,
        "core": SMALL.to_dict(),
        **{name: entry[name] for name in names},
    }
