"""The documentation: generated parts are up to date, links lead somewhere, commands exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from intformer.cli import _parser, main
from intformer.config import load_config, preset_names

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def generator():
    """The module ``docs/generate.py``."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_instruction_set_is_up_to_date():
    module = generator()
    text = module.PAGE.read_text(encoding="utf-8")
    assert module.render(text) == text, "run `python docs/generate.py`"


def test_changed_field_would_show(monkeypatch):
    module = generator()
    text = module.PAGE.read_text(encoding="utf-8")
    op = module.isa.Op.FETCH_STREAM
    ext, columns, *others = module.isa.OPERATIONS[op]
    monkeypatch.setitem(module.isa.OPERATIONS, op, (columns, ext, *others))
    assert module.render(text) != text


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} in {page.name}"
        if anchor:
            assert anchor in anchors(target), f"{link} in {page.name}"


def commands(page: Path) -> list[str]:
    """The ``intformer`` command lines of the page's code blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [m[1] for line in lines if (m := re.match(r"\s*\$?\s*intformer (.*)", line))]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page):
    for line in commands(page):
        words = shlex.split(line.partition("#")[0].partition(";")[0])
        if "--help" not in words and "--version" not in words:
            _parser().parse_args(words)


def test_presets_are_documented():
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in preset_names():
        config = load_config(name)
        row = f"| `{name}` | {config.rows} | {config.cols} | {config.lanes} | {config.bus_bytes} |"
        assert row in text, row


def python_blocks(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def test_documented_python_runs(tmp_path, monkeypatch):
    """Every Python block of the pages, except what needs the RTL, after the first commands."""
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    (tmp_path / "build").mkdir()
    model = ["examples.encoder:small_encoder", "-o", "build/small", "--config", "tiny"]
    assert main(["compile", *model]) == 0
    pages = ("cli.md", "compiler.md", "configuration.md", "embedding.md", "simulation.md")
    blocks = [(page, block) for page in pages for block in python_blocks(page)]
    assert {page for page, _ in blocks} == set(pages)
    for page, block in blocks:
        if "RtlSimulator" not in block:
            exec(compile(block, page, "exec"), {})
    assert (tmp_path / "build" / "small4" / "manifest.json").is_file()
