#!/bin/sh
# Fetches ONNX Runtime's shared library into .quern/ort/, from the wheel that PyPI publishes.
# Nothing is installed, and nothing outside that folder is changed. Needs python3 with pip.
set -eu

version=1.30.0
folder="$(cd "$(dirname "$0")/.." && pwd)/.quern/ort"
library="$folder/libonnxruntime.so.$version"

fail() {
    echo "make ort: $1" >&2
    exit 1
}

if [ -s "$library" ]; then
    echo "$library"
    exit 0
fi

[ "$(uname -s)" = Linux ] || fail "this fetches the library for Linux only; elsewhere install ONNX Runtime $version yourself and pass its library with --ort-library"
command -v python3 >/dev/null 2>&1 || fail "python3 is missing: install it (Debian: apt install python3 python3-pip), or install ONNX Runtime $version yourself and pass its library with --ort-library"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip: install it (Debian: apt install python3-pip)"

temporary="$(mktemp -d)"
trap 'rm -rf "$temporary"' EXIT
trap 'exit 1' HUP INT TERM

echo "downloading onnxruntime $version from PyPI for its shared library" >&2
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --dest "$temporary" "onnxruntime==$version" >&2 ||
    fail "pip could not download onnxruntime $version: see its message above (it needs PyPI, and a Python that the wheel is built for)"

mkdir -p "$folder"
# The library is written beside its place and renamed, so that half a copy is never found there.
python3 - "$temporary" "$library" <<'PYTHON' || fail "the wheel could not be unpacked into $folder"
import os, pathlib, shutil, sys, zipfile

wheels, library = pathlib.Path(sys.argv[1]), sys.argv[2]
(wheel,) = wheels.glob("onnxruntime-*.whl")
with zipfile.ZipFile(wheel) as archive:
    names = [n for n in archive.namelist() if pathlib.PurePosixPath(n).name.startswith("libonnxruntime.so")]
    if len(names) != 1:
        sys.exit(f"{wheel.name} holds {len(names)} files named libonnxruntime.so*, expected one: {names}")
    partial = pathlib.Path(library).with_name("partial")
    with archive.open(names[0]) as source, open(partial, "wb") as target:
        shutil.copyfileobj(source, target)
os.replace(partial, library)
PYTHON

[ -s "$library" ] || fail "$library is not there after unpacking"
echo "$library"
