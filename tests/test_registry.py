"""What is derived from the entries of the families: names, classes, sizes; and who may import whom."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import photophone
from photophone import create_model
from photophone.loading.entry import KINDS
from photophone.loading.registry import REGISTRY, class_named, families, find, public_classes, training_families

ROOT = Path(__file__).parents[1]
MODELS = [name for name, entry in REGISTRY.items() if entry.kind != "pipeline"]
FAMILY = re.compile(r"photophone\.(tokenizers|codecs|generators)\.(\w+)")
MAY_IMPORT = {
    ("generators.cspd", "generators.mar"),  # a decoding of two MARs
    ("generators.gense", "codecs.simcodec"),  # the codec that its codes are of
    ("generators.gense", "generators.llase_g1"),  # keys of the same network in front
    ("generators.taste", "generators.cosyvoice"),  # the same encoders, for the same speech tokens
    ("generators.llase_g1", "codecs.xcodec2"),  # the decoder of the codes that it predicts
    ("tokenizers.titok", "tokenizers.maskgit_vqgan"),  # its teacher, and the decoder of its proxy codes
    ("tokenizers.alit", "tokenizers.kl_vae"),  # the tokenizer whose features it reads, in its file
    ("tokenizers.alit", "tokenizers.maskgit_vqgan"),  # the same
}
"""Families that read another's tokens or are made of its models."""


def test_entries_are_complete():
    for name, entry in REGISTRY.items():
        assert name == entry.name == name.lower() and " " not in name
        assert entry.kind in KINDS
        for value in (entry.summary, entry.paper, entry.code_licence, entry.weights_licence):
            assert value.strip() and "\n" not in value, name
        assert isinstance(entry.load_class(), type)
        assert entry.hub_id or not entry.files, name  # file names may be unknown


def test_front_pages_load_no_torch():
    """Names, licences and the list of models are there at once."""
    code = ("import sys, photophone; from photophone.loading.registry import REGISTRY; assert len(REGISTRY) > 100; "
            "assert 'TiTok' in dir(photophone); assert not {'torch', 'numpy', 'diffusers'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_classes_of_models_are_public():
    for name in public_classes():
        assert getattr(photophone, name) is class_named(name) and name in photophone.__all__
    assert class_named("os") is None and class_named("Path") is None


def test_two_models_of_one_name_are_refused(monkeypatch):
    from photophone.loading import registry

    twice = list(families())[:1] * 2
    monkeypatch.setattr(registry, "families", lambda: iter(twice))
    with pytest.raises(ValueError, match="two families name a model"):
        registry._collect()


def test_training_names_lead_to_one_class():
    for kind in ("image_tokenizer", "generator"):
        for name, target in training_families(kind).items():
            assert re.fullmatch(r"[a-z0-9-]+", name)
            assert target.startswith("photophone.")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_its_published_size(name):
    """Built on the meta device with the published config."""
    with torch.device("meta"):
        model = create_model(name)
    assert find(name).parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("name", [name for name, entry in REGISTRY.items() if entry.chain])
def test_a_chain_names_what_there_is(name):
    chain = find(name).chain
    assert all(model in REGISTRY for model in chain.files.values())
    assert hasattr(photophone, chain.pipeline)
    assert chain.tokenizer[0] not in chain.generator
    generator = find(name).load_class()
    generator.Sampler.from_settings(chain.sampler)


def imports_of(path):
    """Modules that a file imports, and targets that it names as "module:Class"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"photophone(\.\w+)+:\w+", str(node.value)):
            yield node.value


def families_of(path):
    """(kind.family) of a file, and of what it imports."""
    own = path.relative_to(ROOT / "photophone").parts
    return f"{own[0]}.{own[1]}", {f"{match[1]}.{match[2]}" for name in imports_of(path)
                                  if (match := FAMILY.match(name)) and is_family(match[1], match[2])}


def is_family(kind, name):
    return (ROOT / "photophone" / kind / name).is_dir()


def test_families_do_not_import_each_other():
    """By statement or by string; import-linter holds the order of the layers."""
    used, broken = set(), []
    for kind in ("tokenizers", "codecs", "generators"):
        for path in sorted((ROOT / "photophone" / kind).glob("*/*.py")):
            family, others = families_of(path)
            for other in others - {family}:
                used.add((family, other))
                if (family, other) not in MAY_IMPORT:
                    broken.append(f"{path.relative_to(ROOT)} imports {other}")
    assert broken == []
    assert used == MAY_IMPORT  # an exception that is no longer needed goes


def test_targets_stand_in_front_pages():
    """Only a family's front page and loading/ name classes by string."""
    for path in sorted((ROOT / "photophone").rglob("*.py")):
        targets = [name for name in imports_of(path) if ":" in name]
        parts = path.relative_to(ROOT / "photophone").parts
        if parts[0] == "loading":
            continue
        assert not targets or (path.name == "__init__.py" and len(parts) == 3), path
        for target in targets:
            own = ".".join(("photophone", *parts[:2]))
            assert target.startswith((own + ".", "photophone.pipelines.")), f"{path} names {target}"
