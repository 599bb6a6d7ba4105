#!/usr/bin/env bash
# torchaudio 2.11.1 does not load on torch 2.11.0, the version whose number it carries.
#
# Its own requirement is torch>=2.11, so an installer puts it beside torch 2.11.0 and is content; `import torchaudio`
# then ends in an OSError, because its library was linked against a symbol that only a later libtorch has. An update of
# torchaudio by the last digit thus breaks an environment whose torch is held.
#
# Seen with torch 2.11.0 and torchaudio 2.11.1 from the package index, Python 3.11, Linux x86-64:
#   requirement of torchaudio 2.11.1: torch>=2.11
#   import torchaudio: OSError, could not load libtorchaudio.so, caused by an undefined symbol
#   import of torchaudio 2.11.0 beside the same torch: works
#
# For users: raise torch together with torchaudio; photophone asks for torch>=2.13 beside torchaudio>=2.11.1.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 torchaudio==2.11.1 numpy

cat > "$folder/look.py" <<'PY'
from importlib import metadata

print("torch", metadata.version("torch"), "torchaudio", metadata.version("torchaudio"))
print("requirements:", metadata.requires("torchaudio"))
try:
    import torchaudio
except OSError as error:
    causes = [error]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    words = " ".join(map(str, causes))
    print("import:", type(error).__name__, "undefined symbol" if "undefined symbol" in words else words)
else:
    print("import: works", torchaudio.__version__)
PY
"$folder/env/bin/python" "$folder/look.py" | tee "$folder/first"
grep -q "torch>=2.11" "$folder/first"
grep -q "^import: OSError undefined symbol" "$folder/first"

"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps torchaudio==2.11.0
"$folder/env/bin/python" "$folder/look.py" | tee "$folder/second"
grep -q "^import: works 2.11.0" "$folder/second"
echo "as described"
