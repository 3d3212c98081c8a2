"""Small Hugging Face encoders and vision models with random weights, for the sweep.

A configuration sets sizes only; everything else is the architecture's own default. All parameters
get random values (biases, scales of norms and position tables, too, which Hugging Face begins at
0 or 1), so that nothing passes because it does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ARCHITECTURES", "Architecture", "Built", "build"]

VOCABULARY = 60
LENGTH = 10
PIXELS = 16


@dataclass(frozen=True)
class Architecture:
    """One architecture: its classes in transformers, its small sizes, and what goes in.

    ``takes``: ``"text"`` (ids and attention mask), ``"image"``, ``"mel"`` or ``"audio"``.
    ``attention``: the implementations to try. ``output``: which of the model's outputs.
    """

    name: str
    model: str
    config: str
    sizes: dict[str, Any]
    takes: str = "text"
    attention: tuple[str, ...] = ("sdpa", "eager")
    output: str = "last_hidden_state"
    pixels: int = PIXELS
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Built:
    """A model to compile: the module, its example inputs, and a maker of samples."""

    module: Any
    inputs: tuple[Any, ...]
    sample: Callable[[int], list[Any]]


_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": 2 * LENGTH} | _BERT
_IMAGE = {"image_size": PIXELS, "patch_size": 4, "num_channels": 3} | _BERT
_CLIP_TEXT = _TEXT | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("BERT", "BertModel", "BertConfig", _TEXT, output="pooler_output"),
    Architecture("RoBERTa", "RobertaModel", "RobertaConfig", _TEXT),
    Architecture(
        "DistilBERT",
        "DistilBertModel",
        "DistilBertConfig",
        {
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 2 * LENGTH,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 64,
        },
    ),
    Architecture("ELECTRA", "ElectraModel", "ElectraConfig", _TEXT | {"embedding_size": 16}),
    Architecture("ALBERT", "AlbertModel", "AlbertConfig", _TEXT | {"embedding_size": 16}),
    Architecture("MPNet", "MPNetModel", "MPNetConfig", _TEXT, attention=("eager",)),
    Architecture(
        "MobileBERT",
        "MobileBertModel",
        "MobileBertConfig",
        _TEXT
        | {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2},
    ),
    Architecture(
        "DeBERTa-v2",
        "DebertaV2Model",
        "DebertaV2Config",
        _TEXT
        | {
            "relative_attention": True,
            "position_buckets": 4,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
        attention=("eager",),
    ),
    Architecture("ViT", "ViTModel", "ViTConfig", _IMAGE, "image"),
    Architecture(
        "DeiT",
        "DeiTForImageClassification",
        "DeiTConfig",
        _IMAGE | {"num_labels": 10},
        "image",
        output="logits",
    ),
    Architecture(
        "BEiT", "BeitModel", "BeitConfig", _IMAGE | {"use_relative_position_bias": True}, "image"
    ),
    Architecture("DINOv2", "Dinov2Model", "Dinov2Config", _IMAGE, "image"),
    Architecture(
        "Swin",
        "SwinModel",
        "SwinConfig",
        {
            "image_size": PIXELS,
            "patch_size": 2,
            "num_channels": 3,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        "image",
        output="pooler_output",
    ),
    Architecture(
        "MobileViT",
        "MobileViTModel",
        "MobileViTConfig",
        {
            "image_size": 32,
            "hidden_sizes": [16, 20, 24],
            "neck_hidden_sizes": [8, 8, 8, 8, 12, 12, 16],
            "num_attention_heads": 2,
        },
        "image",
        pixels=32,
        attention=("eager",),
    ),
    Architecture("CLIP text", "CLIPTextModel", "CLIPTextConfig", _CLIP_TEXT),
    Architecture(
        "CLIP vision", "CLIPVisionModel", "CLIPVisionConfig", _IMAGE, "image",
        output="pooler_output",
    ),
    Architecture(
        "Whisper encoder",
        "models.whisper.modeling_whisper.WhisperEncoder",
        "WhisperConfig",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "num_mel_bins": 16,
            "max_source_positions": 8,
        },
        "mel",
    ),
    Architecture(
        "T5 encoder",
        "T5EncoderModel",
        "T5Config",
        {
            "vocab_size": VOCABULARY,
            "d_model": 32,
            "d_kv": 16,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 2,
        },
        attention=("eager",),
    ),
    Architecture(
        "T5 v1.1 encoder (gated)",
        "T5EncoderModel",
        "T5Config",
        {
            "vocab_size": VOCABULARY,
            "d_model": 32,
            "d_kv": 16,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 2,
            "feed_forward_proj": "gated-gelu",
        },
        attention=("eager",),
    ),
    Architecture("XLM-RoBERTa", "XLMRobertaModel", "XLMRobertaConfig", _TEXT),
    Architecture(
        "ESM-2 (rotary)",
        "EsmModel",
        "EsmConfig",
        _TEXT | {"position_embedding_type": "rotary", "pad_token_id": 1, "mask_token_id": 2},
    ),
    Architecture(
        "ModernBERT (rotary, gated)",
        "ModernBertModel",
        "ModernBertConfig",
        _TEXT
        | {
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
        },
    ),
    Architecture(
        "SigLIP vision", "SiglipVisionModel", "SiglipVisionConfig", _IMAGE, "image"
    ),
    Architecture("ViT-MSN", "ViTMSNModel", "ViTMSNConfig", _IMAGE, "image"),
    Architecture("Data2Vec text", "Data2VecTextModel", "Data2VecTextConfig", _TEXT),
    Architecture(
        "AST (audio spectrogram)",
        "ASTModel",
        "ASTConfig",
        _BERT
        | {
            "num_mel_bins": 16,
            "max_length": 24,
            "patch_size": 8,
            "frequency_stride": 8,
            "time_stride": 8,
        },
        "audio",
    ),
    Architecture(
        "DINOv2 with registers (SwiGLU)",
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        _IMAGE | {"num_register_tokens": 2, "use_swiglu_ffn": True},
        "image",
    ),
    Architecture(
        "SegFormer encoder",
        "SegformerModel",
        "SegformerConfig",
        {
            "hidden_sizes": [8, 12, 16, 16],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 2],
            "decoder_hidden_size": 16,
        },
        "image",
        pixels=32,
        attention=("eager",),
    ),
)


def build(architecture: Architecture, attention: str, *, seed: int = 0) -> Built:
    """The model of an architecture, with inputs; everything follows from ``seed``."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, architecture.config)(**architecture.sizes)
    config._attn_implementation = attention
    found: Any = transformers
    for part in architecture.model.split("."):
        found = getattr(found, part)
    model = found(config).eval()
    _randomize(model)
    samples = {"text": _text, "image": _image, "mel": _mel, "audio": _spectrogram}
    sample = samples[architecture.takes](architecture)
    return Built(_wrapper(architecture, model), tuple(sample(0)), sample)


def _randomize(model: Any) -> None:
    """Random parameters, none at the constant that it may begin at.

    Layers keep the size of what goes through them; tables and tokens have deviation 0.5; vectors
    keep their means.
    """
    import torch

    layers = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, layers)}
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape)
            if id(parameter) in matrices:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            elif parameter.ndim > 1:
                parameter.copy_(0.5 * noise)
            else:
                parameter += 0.1 * noise


def _wrapper(architecture: Architecture, model: Any) -> Any:
    """A module that takes tensors and returns the one output."""
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            result = self.model(x, attention_mask=attention_mask, **architecture.extra)
            return result[architecture.output]

    class Vision(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x, **architecture.extra)[architecture.output]

    return Encoder() if architecture.takes == "text" else Vision()


def _generator(index: int) -> Any:
    import torch

    return torch.Generator().manual_seed(1000 + index)


def _text(_architecture: Architecture) -> Callable[[int], list[Any]]:
    import torch

    def sample(index: int) -> list[Any]:
        generator = _generator(index)
        ids = torch.randint(3, VOCABULARY, (1, LENGTH), generator=generator)
        length = LENGTH - index % 5  # the first one is as long as can be
        mask = (torch.arange(LENGTH) < length).long()[None]
        return [torch.where(mask == 1, ids, torch.ones_like(ids)), mask]

    return sample


def _image(architecture: Architecture) -> Callable[[int], list[Any]]:
    import torch

    size = architecture.pixels

    def sample(index: int) -> list[Any]:
        return [torch.randn(1, 3, size, size, generator=_generator(index))]

    return sample


def _mel(architecture: Architecture) -> Callable[[int], list[Any]]:
    import torch

    bins = architecture.sizes["num_mel_bins"]
    length = 2 * architecture.sizes["max_source_positions"]

    def sample(index: int) -> list[Any]:
        return [torch.randn(1, bins, length, generator=_generator(index))]

    return sample


def _spectrogram(architecture: Architecture) -> Callable[[int], list[Any]]:
    import torch

    shape = (1, architecture.sizes["max_length"], architecture.sizes["num_mel_bins"])

    def sample(index: int) -> list[Any]:
        return [torch.randn(*shape, generator=_generator(index))]

    return sample
