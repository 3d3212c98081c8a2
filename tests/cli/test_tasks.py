"""``compile`` of Hugging Face folders, ``embed`` and ``classify``: results, output, mistakes."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from cli_helpers import left_by, toml
from hf_folders import LABELS, bert, picture, vit

from intformer import api
from intformer.running_tasks import Target, classify, cosines, embed, pool

TEXTS = ["the cat sat on the mat.", "a big dog ran far away", "very small"]
LINES = [*TEXTS, "it was not a house", "the green house and the red cat", "dogs sat"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A core, a sentence encoder and an image classifier, as folders and compiled."""
    from intformer.cli import main

    folder = tmp_path_factory.mktemp("tasks")
    core = folder / "core.toml"
    core.write_text(toml(act_words=4096, wide_words=8192, act_tables=2))
    (folder / "lines.txt").write_text("\n".join(LINES) + "\n\n")
    (folder / "images").mkdir()
    for seed in range(4):
        picture(folder / "images" / f"{seed}.png", seed=seed)
    torch_models = {}
    for name, write, data in (("bert", bert, "lines.txt"), ("vit", vit, "images")):
        (folder / f"hf-{name}").mkdir()
        torch_models[name] = write(folder / f"hf-{name}")
        words = ["compile", folder / f"hf-{name}", "-o", folder / name, "--config", core]
        assert main([str(w) for w in [*words, "--calibration", folder / data]]) == 0
        shutil.rmtree(folder / f"hf-{name}")  # the compiled model stands alone
    return folder, torch_models


def test_embed(made, run, out):
    folder, torch_models = made
    words = [w for text in TEXTS for w in ("--text", text)]
    path = out.with_suffix(".npy")
    figures_path = out.with_suffix(".json")
    printed = run("embed", folder / "bert", *words, "-o", path, "--json", figures_path)
    assert printed.startswith("3 embeddings of 16 dimensions\n")
    assert printed.splitlines()[2].split("  ")[2].startswith("the cat sat")
    vectors = np.load(path)
    figures = json.loads(figures_path.read_text())
    np.testing.assert_allclose(figures["embeddings"], vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(figures["cosines"], cosines(vectors), atol=1e-6)
    assert figures["texts"] == TEXTS and figures["tokens"] == [9, 8, 4] and not figures["cut"]
    wanted = _float_embeddings(torch_models["bert"], folder)
    assert (np.diag(vectors @ wanted.T) > 0.99).all()


def _float_embeddings(model, folder):
    import torch

    from intformer.text import encode_texts

    task = api.load(folder / "bert").task
    encoded = encode_texts(task.tokenizer, task.text, TEXTS)
    with torch.no_grad():
        hidden = model(
            input_ids=torch.tensor(encoded.ids), attention_mask=torch.tensor(encoded.mask).long()
        ).last_hidden_state.numpy()
    return pool(hidden, encoded.mask, mode="mean", normalize=True)


def test_simulator_equals_reference(made, run):
    folder, _ = made
    model = api.load(folder / "bert")
    reference = embed(model, TEXTS)
    simulated = embed(model, TEXTS, target=Target(on="iss"))
    for name, codes in reference.output.codes.items():
        assert np.array_equal(codes, simulated.output.codes[name])
    assert np.array_equal(reference.vectors, simulated.vectors)
    assert len(simulated.output.cycles) == 3
    printed = run("embed", folder / "bert", "--text", TEXTS[0], "--on", "simulator")
    assert "cycles per run: " in printed
    report = model.verify(_arrays(model), levels=("iss",))
    assert report.ok and report.figures()["tensors_compared"] > 40


def _arrays(model):
    from intformer.running_tasks import text_arrays

    return text_arrays(model.task, model.graph.inputs, TEXTS)


def test_embed_lines(made, run, monkeypatch, tmp_path):
    folder, _ = made
    figures = tmp_path / "x.json"
    run("embed", folder / "bert", "--file", folder / "lines.txt", "--json", figures)
    assert json.loads(figures.read_text())["texts"] == LINES
    monkeypatch.setattr("sys.stdin", io.StringIO("\na cat \n"))
    printed = run("embed", folder / "bert", "--file", "-")
    assert printed.startswith("1 embeddings of 16 dimensions\n[")


def test_long_text_is_cut_with_a_notice(made, capsys, tmp_path):
    from intformer.cli import main

    folder, _ = made
    text, path = "the " * 20, tmp_path / "x.json"
    words = ["embed", str(folder / "bert"), "--text", text, "--json", str(path)]
    assert main(words) == 0
    assert "text 1 of 22 tokens is cut to 12" in capsys.readouterr().err
    assert json.loads(path.read_text())["cut"] == [0]
    short = embed(api.load(folder / "bert"), ["the " * 10]).vectors
    assert np.array_equal(json.loads(path.read_text())["embeddings"], short.tolist())


def test_classify(made, run, tmp_path):
    folder, _ = made
    path = picture(tmp_path / "x.png", seed=9)
    figures_path = tmp_path / "x.json"
    words = ["classify", folder / "vit", "--image", path, "--image", path, "--top", 2]
    printed = run(*words, "--on", "iss", "--json", figures_path).splitlines()
    assert printed[0] == str(path) and len(printed) == 7
    figures = json.loads(figures_path.read_text())
    (first, second) = figures["classified"]
    assert first == second | {"sample": str(path)}
    assert first["top"][0]["label"] == LABELS[int(np.argmax(first["logits"]))]
    assert [len(first["top"]), len(first["codes"])] == [2, 3]
    assert first["top"][0]["logit"] >= first["top"][1]["logit"]
    model = api.load(folder / "vit")
    assert np.array_equal(classify(model, images=[path]).codes[0], first["codes"])
    assert first["top"][0]["label"] in printed[1]


def test_pool():
    hidden = np.array([[[1.0, -2.0], [3.0, -4.0], [90.0, 90.0]]])
    mask = np.array([[True, True, False]])
    for mode, want in (("mean", [2, -3]), ("max", [3, -2]), ("cls", [1, -2])):
        assert pool(hidden, mask, mode=mode, normalize=False).tolist() == [want]
    length = np.sqrt(13)
    got = pool(hidden, mask, mode="mean", normalize=True)
    np.testing.assert_allclose(got, [[2 / length, -3 / length]], rtol=1e-6)
    assert pool(hidden * 0, mask, mode="mean", normalize=True).tolist() == [[0, 0]]


def mistakes(folder):
    bert_, vit_, image = folder / "bert", folder / "vit", folder / "images" / "0.png"
    return [
        (["embed", vit_, "--text", "x"], "needs a sentence encoder or a token encoder"),
        (["classify", bert_, "--image", image], "needs an image classifier or a text classifier"),
        (["embed", bert_], "give --text or --file"),
        (["classify", vit_], "give --image"),
        (["classify", vit_, "--text", "x"], "classifies images: give --image"),
        (["classify", vit_, "--image", folder / "none.png"], "no such image"),
        (["classify", vit_, "--image", folder / "lines.txt"], "lines.txt as an image"),
        (["classify", vit_, "--image", image, "--top", 0], "--top must be positive, not 0"),
        (["embed", bert_, "--file", folder / "none.txt"], "cannot read"),
        (["embed", bert_, "--file", image], "not UTF-8"),
        (["embed", bert_, "--text", "x", "-o", folder / "x.txt"], "written as .npy"),
        (["embed", bert_, "--text", "x", "--pooling", "cls"], "own pooling is mean, not cls"),
        (["embed", bert_, "--text", "x", "--on", "board"], "--on board needs --port"),
        (["embed", bert_, "--text", "x", "--port", "x"], "--port and --baud are for --on board"),
        (["embed", folder / "images", "--text", "x"], "is not a compiled model"),
    ]


@pytest.mark.parametrize("number", range(15))
def test_mistakes(made, refused, number):
    cases = mistakes(made[0])
    assert len(cases) == 15
    words, message = cases[number]
    assert message in refused(*words)


def test_model_of_no_task(folder, refused):
    assert "compiled from a Hugging Face folder" in refused(
        "embed", folder / "model", "--text", "x"
    )


@pytest.mark.parametrize("name", ["task.json", "tokenizer.json"])
def test_damaged_task(made, refused, tmp_path, name):
    copy = shutil.copytree(made[0] / "bert", tmp_path / "copy")
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    assert f"{name}: truncated" in refused("embed", copy, "--text", "x")
    (copy / name).unlink()
    assert f"{name}: the file is missing" in refused("embed", copy, "--text", "x")


def test_token_encoder_needs_a_pooling(refused, run, out, tmp_path):
    bert(tmp_path, sentences=False)
    core = tmp_path / "core.toml"
    core.write_text(toml(act_words=4096, wide_words=8192))
    run("compile", tmp_path, "-o", out, "--config", core, "--length", 6)
    assert "choose one: mean, cls, max" in refused("embed", out, "--text", "cat")
    assert run("embed", out, "--text", "cat", "--pooling", "max").startswith("1 embeddings")


def test_compile_mistakes(refused, out, tmp_path, made):
    (tmp_path / "empty").mkdir()
    message = refused("compile", tmp_path / "empty", "-o", out, "--config", "tiny")
    assert "config.json: the file is missing" in message
    message = refused("compile", "cli_models:small", "-o", out, "--config", "tiny", "--length", 4)
    assert "length is for text models" in message
    vit(tmp_path / "empty")
    words = ["compile", tmp_path / "empty", "-o", out, "--config", "tiny", "--calibration"]
    assert "must be .npz or a folder" in refused(*words, made[0] / "lines.txt")
    assert left_by(out) == []
