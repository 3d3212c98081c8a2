"""Small random models as Hugging Face folders, written by transformers itself."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("the", "a", "cat", "dog", "sat", "on", "mat", "ran", "far", "away", "house", "small", "big"),
    *("green", "red", "and", "it", "was", "not", "very"),
    *("##s", "##ing", "##ed", "."),
]
LABELS = ("bird", "cat", "dog")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def write_tokenizer(folder: Path) -> None:
    """A WordPiece tokenizer over :data:`WORDS`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 24}))


def bert(folder: Path, *, sentences: bool = True, head: bool = False, model_type: str = "bert"):
    """A BERT or RoBERTa of two layers with a tokenizer; returns the torch model."""
    import torch
    import transformers

    torch.manual_seed(0)
    prefix = {"bert": "Bert", "roberta": "Roberta"}[model_type]
    config = getattr(transformers, f"{prefix}Config")(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        pad_token_id=0,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
    )
    kind = "ForSequenceClassification" if head else "Model"
    model = getattr(transformers, f"{prefix}{kind}")(config).eval()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    if sentences:
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
        limits = {"max_seq_length": 12, "do_lower_case": False}
        (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    return model


def vit(folder: Path):
    """A ViT of one layer on images of 16 x 16; returns the torch model."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    steps = {
        "do_resize": True,
        "size": {"shortest_edge": 20},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 16, "width": 16},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "image_processor_type": "ViTImageProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(steps))
    return model


def picture(path: Path, *, size: tuple[int, int] = (31, 23), seed: int = 0) -> Path:
    """A random RGB image as a file."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
