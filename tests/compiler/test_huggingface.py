"""Hugging Face folders: the graph is the model, the task is what files say, errors name files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hf_folders import LABELS, MEAN, STD, WORDS, bert, picture, vit, write_tokenizer

from intformer.compiler.float_eval import evaluate
from intformer.compiler.frontend.huggingface import load_folder
from intformer.compiler.graph import Softmax
from intformer.errors import FormatError, UserError
from intformer.images import pixel_values, read_images
from intformer.tasks import ImageSteps, Task, TextSteps
from intformer.text import encode_texts

TEXTS = ["The cat sat on the mat.", "dogs"]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    return folder, bert(folder)


def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_graph_is_the_model(tmp_path, model_type):
    model = bert(tmp_path, model_type=model_type)
    graph, task = load_folder(tmp_path)
    ids_name, mask_name = graph.inputs
    assert graph.values[ids_name].shape == (1, 12) and graph.values[mask_name].kind == "bool"
    assert all(len(n.inputs) == 2 for n in graph.nodes if isinstance(n, Softmax))
    encoded = encode_texts(task.tokenizer, task.text, TEXTS)
    for ids, mask in zip(encoded.ids, encoded.mask, strict=True):
        got = evaluate(graph, {ids_name: ids[None], mask_name: mask[None]})[graph.outputs[0]]
        with torch.no_grad():
            want = model(
                input_ids=torch.tensor(ids[None]), attention_mask=torch.tensor(mask[None]).long()
            ).last_hidden_state.numpy()
        np.testing.assert_allclose(got[:, mask], want[:, mask], atol=2e-6)
    assert any(name.startswith("encoder.layer.1.") for name in graph.values)
    assert not any(name.startswith("model.") for name in graph.values)


def test_task_of_a_sentence_encoder(sentences):
    folder, _ = sentences
    _, task = load_folder(folder)
    assert (task.kind, task.pooling, task.normalize) == ("sentence encoder", "mean", True)
    assert task.text == TextSteps(length=12, pad_id=0, lower_case=False)
    assert task.tokenizer == (folder / "tokenizer.json").read_bytes()
    assert (
        Task.from_plain(json.loads(json.dumps(task.to_plain())), tokenizer=task.tokenizer) == task
    )


def test_length(sentences, tmp_path):
    folder = copied(sentences[0], tmp_path)
    assert load_folder(folder, length=7)[1].text.length == 7
    (folder / "modules.json").unlink()
    _, task = load_folder(folder)
    assert (task.kind, task.pooling, task.text.length) == ("token encoder", None, 24)
    (folder / "tokenizer_config.json").unlink()
    assert load_folder(folder)[1].text.length == 32
    for length, message in ((0, "must be positive, not 0"), (33, "has 32 positions, not 33")):
        with pytest.raises(UserError, match=message):
            load_folder(folder, length=length)


def test_text_classifier(tmp_path):
    model = bert(tmp_path, sentences=False, head=True)
    graph, task = load_folder(tmp_path, length=8)
    assert (task.kind, task.labels) == ("text classifier", LABELS)
    encoded = encode_texts(task.tokenizer, task.text, TEXTS[1:])
    inputs = dict(zip(graph.inputs, (encoded.ids, encoded.mask), strict=True))
    with torch.no_grad():
        want = model(torch.tensor(encoded.ids), torch.tensor(encoded.mask).long()).logits
    np.testing.assert_allclose(evaluate(graph, inputs)[graph.outputs[0]], want, atol=2e-6)


def test_new_form_of_pooling(sentences, tmp_path):
    folder = copied(sentences[0], tmp_path)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert load_folder(folder)[1].pooling == "cls"


def test_encode_texts(sentences):
    _, task = load_folder(sentences[0])
    encoded = encode_texts(task.tokenizer, task.text, [*TEXTS, "the " * 20])
    assert encoded.tokens == [9, 4, 22] and encoded.cut == [2]
    words = [WORDS[i] for i in encoded.ids[0][encoded.mask[0]]]
    assert words == ["[CLS]", "the", "cat", "sat", "on", "the", "mat", ".", "[SEP]"]
    assert encoded.mask.sum(axis=1).tolist() == [9, 4, 12]
    assert [WORDS[i] for i in encoded.ids[2][[0, 11]]] == ["[CLS]", "[SEP]"]
    assert not encoded.ids[1][4:].any()


def test_made_tokenizer(sentences, tmp_path):
    folder = copied(sentences[0], tmp_path)
    (folder / "tokenizer.json").unlink()
    assert load_folder(folder)[1].tokenizer == b""
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 24}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    task = load_folder(folder)[1]
    ours = encode_texts(task.tokenizer, task.text, TEXTS)
    theirs = encode_texts((sentences[0] / "tokenizer.json").read_bytes(), task.text, TEXTS)
    assert np.array_equal(ours.ids, theirs.ids)


def test_image_classifier(tmp_path):
    model = vit(tmp_path)
    graph, task = load_folder(tmp_path)
    assert (task.kind, task.labels) == ("image classifier", LABELS)
    pixels = read_images([picture(tmp_path / "x.png")], task.image)
    got = evaluate(graph, {graph.inputs[0]: pixels})[graph.outputs[0]]
    with torch.no_grad():
        want = model(pixel_values=torch.tensor(pixels)).logits
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("size", [(31, 23), (16, 40), (9, 9)])
def test_pixels_are_those_of_transformers(tmp_path, size):
    from PIL import Image
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    vit(tmp_path)
    task = load_folder(tmp_path)[1]
    path = picture(tmp_path / "x.png", size=size)
    processor = ViTImageProcessorPil.from_pretrained(tmp_path)
    want = processor(Image.open(path), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(read_images([path], task.image), want, atol=1e-6)


def test_pixels_by_hand():
    from PIL import Image

    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    steps = ImageSteps(height=3, width=1, factor=1.0, mean=MEAN, std=STD, bgr=True)
    got = pixel_values(image, steps)
    assert got.shape == (3, 3, 1)
    columns = np.array([[0, 0, 0], [0, 1, 2], [6, 7, 8]], np.float32)  # black on top
    want = ((columns - np.float32(MEAN)) / np.float32(STD))[:, None, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(got, want)


def broken_json(name):
    return lambda folder: (folder / name).write_text("{")


def without(name):
    return lambda folder: (folder / name).unlink()


def changed(name, **values):
    def change(folder):
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(data | values))

    return change


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])


def lost_weight(folder):
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def shards(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def dense(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))


BROKEN = {
    "no_config": (without("config.json"), "config.json: the file is missing"),
    "bad_config": (broken_json("config.json"), "config.json: not valid JSON"),
    "no_weights": (without("model.safetensors"), "model.safetensors: the file is missing"),
    "cut_weights": (cut_weights, "model.safetensors: not safetensors"),
    "pickle": (pickled, "pytorch_model.bin is not read"),
    "shard": (shards, "model-00001-of-00002.safetensors: the file is missing"),
    "lost": (lost_weight, "lack the weight encoder.layer.1.output.dense.weight"),
    "no_class": (changed("config.json", architectures=["Nothing"]), "no architecture 'Nothing'"),
    "no_names": (changed("config.json", architectures=None), "has no architectures"),
    "decoder": (changed("config.json", architectures=["GPT2LMHeadModel"]), "not supported"),
    "head": (
        changed("config.json", architectures=["BertForQuestionAnswering"]),
        "architecture 'BertForQuestionAnswering' is not supported",
    ),
    "quantized": (changed("config.json", quantization_config={}), "quantized already"),
    "heads": (changed("config.json", num_attention_heads=3), "cannot load BertModel"),
    "tokenizer": (broken_json("tokenizer.json"), "tokenizer.json: not a tokenizer"),
    "modules": (broken_json("modules.json"), "modules.json: not valid JSON"),
    "dense": (dense, "Dense' is not supported"),
    "no_pooling": (without("1_Pooling/config.json"), "config.json: the file is missing"),
    "two_poolings": (
        changed("1_Pooling/config.json", pooling_mode_cls_token=True),
        "not mean_tokens, cls_token",
    ),
    "length": (
        changed("sentence_bert_config.json", max_seq_length="x"),
        "max_seq_length must be a positive integer, not 'x'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folder(sentences, tmp_path, name):
    folder = copied(sentences[0], tmp_path)
    spoil, message = BROKEN[name]
    spoil(folder)
    with pytest.raises(UserError) as caught:
        load_folder(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)


IMAGES = {
    "none": (without("preprocessor_config.json"), "preprocessor_config.json: the file is missing"),
    "mean": (changed("preprocessor_config.json", image_mean=[1, 2]), "image_mean must hold 3"),
    "std": (changed("preprocessor_config.json", image_std=[0, 1, 1]), "image_std must hold 3"),
    "crop_pct": (changed("preprocessor_config.json", crop_pct=0.9), "crop_pct is not supported"),
    "size": (
        changed("preprocessor_config.json", crop_size={"height": 24, "width": 24}),
        "does not take images of 24 x 24",
    ),
    "nonsense": (changed("preprocessor_config.json", size={"h": 1}), "cannot be understood"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_broken_image_folder(tmp_path, name):
    vit(tmp_path)
    spoil, message = IMAGES[name]
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        load_folder(tmp_path)


def test_tokenizer_of_nobody():
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        encode_texts(b"{}", TextSteps(length=4), ["x"])
    with pytest.raises(UserError, match="without a tokenizer"):
        encode_texts(b"", TextSteps(length=4), ["x"])


def test_write_tokenizer_reads_back(tmp_path):
    write_tokenizer(tmp_path)
    data = (tmp_path / "tokenizer.json").read_bytes()
    assert encode_texts(data, TextSteps(length=3), ["cat"]).ids.tolist() == [[2, 7, 3]]
