"""Rules that every file keeps: safe loading, sizes, docstrings."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("photophone", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def name_of(node):
    """``torch.load`` for the expression torch.load, "" for what has no name."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe_calls(source):
    """What a call of the source does that no file may do."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, options = name_of(node.func), {option.arg: option.value for option in node.keywords}
        values = {key: value.value for key, value in options.items() if isinstance(value, ast.Constant)}
        if name == "torch.load" and values.get("weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if values.get("strict") is False:
            found.append("strict=False")
        if name.endswith(".cuda"):
            found.append(".cuda()")
        if name in ("eval", "exec", "yaml.load", "pickle.load", "pickle.loads", "os.system", "__import__"):
            found.append(name)
        if values.get("shell") is True or values.get("trust_remote_code") is True or values.get("allow_pickle") is True:
            found.append("shell, trust_remote_code or allow_pickle")
    return found


def test_the_rules_find_what_they_look_for():
    bad = ["torch.load(p)", "torch.load(p, weights_only=False)", "m.load_state_dict(s, strict=False)", "x.cuda()",
           "eval(t)", "exec(t)", "yaml.load(f)", "pickle.load(f)", "run(c, shell=True)",
           "np.load(f, allow_pickle=True)"]
    assert all(unsafe_calls(line) for line in bad)
    good = ["torch.load(p, weights_only=True)", "model.eval()", "zip(a, b, strict=True)", "yaml.safe_load(f)"]
    assert not any(unsafe_calls(line) for line in good)


def test_all_files_are_seen():
    assert len(FILES) > 50 and len({path.relative_to(ROOT).parts[0] for path in FILES}) >= 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_keeps_the_rules(path):
    source = path.read_text(encoding="utf-8")
    assert unsafe_calls(source) == []
    assert len(source.splitlines()) <= 600
    long = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(ast.parse(source))
            if isinstance(node, FUNCTIONS) and node.end_lineno - node.lineno + 1 > 75}
    assert not long


def public_definitions(tree):
    """Modules' public functions, classes and methods; overrides of a documented contract have none of their own."""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (item for item in node.body
                            if isinstance(item, FUNCTIONS) and not item.name.startswith("_"))


def test_public_names_have_docstrings():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES if path.parts[-2] != "scripts"}
    documented = {node.name for tree in trees.values() for node in public_definitions(tree) if ast.get_docstring(node)}
    missing, total = [], 0
    for path, tree in trees.items():
        assert ast.get_docstring(tree) or path.read_text().strip() == "", f"{path} has no docstring"
        for node in public_definitions(tree):
            total += 1
            # an implementation of a documented contract, such as encode or sample, inherits its words
            if not ast.get_docstring(node) and (isinstance(node, ast.ClassDef) or node.name not in documented):
                missing.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert len(missing) <= 0.1 * total, missing


def test_test_files_have_unique_names():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
