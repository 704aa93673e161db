#!/bin/sh
# Fetches perf_analyzer into .quern/perf_analyzer/. PyPI has its program only inside an older
# tritonclient; newer ones, and the package of its own name, come without. The two libraries that it
# wants are in another wheel. 70 MB are downloaded; nothing is installed. Needs python3 with pip.
set -eu

folder="$(cd "$(dirname "$0")/../../.." && pwd)/.quern/perf_analyzer"
[ -x "$folder/perf_analyzer" ] && exit 0

temporary="$(mktemp -d)"
trap 'rm -rf "$temporary"' EXIT
trap 'exit 1' HUP INT TERM

echo "downloading perf_analyzer and its libraries from PyPI" >&2
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform manylinux1_x86_64 --platform manylinux_2_35_x86_64 --dest "$temporary" \
    tritonclient==2.50.0 nvidia-pytriton==0.7.0

python3 - "$temporary" "$temporary/whole" <<'PYTHON'
import pathlib, sys, zipfile

wheels, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
# The wheels mark libraries with a number of their own: libb64-98cb6333.so.0d.
wanted = {
    "/bin/perf_analyzer": "perf_analyzer",
    "/libb64-": "libb64.so.0d",
    "/libcudart-": "libcudart.so.12",
}
folder.mkdir()
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            for part, file in wanted.items():
                if part in name:
                    (folder / file).write_bytes(archive.read(name))
                    (folder / file).chmod(0o755)
missing = set(wanted.values()) - {file.name for file in folder.iterdir()}
sys.exit(f"not in the wheels: {missing}" if missing else None)
PYTHON

# Renamed as a whole, so that half of it is never found there.
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$temporary/whole" "$folder"
