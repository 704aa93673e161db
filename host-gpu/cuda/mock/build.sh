#!/bin/sh
# Builds the mock driver into a folder: build.sh FOLDER [FLAGS…]. Needs a C++ compiler.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
folder="$1"
shift
compiler="${CXX:-g++}"
objects="$folder/objects"
mkdir -p "$objects"
flags="-std=c++17 -O1 -g1 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wno-unknown-pragmas -pthread -DQUERN_MOCK -I$here -I$here/../kernels"
for source in "$here"/*.cpp "$here"/../kernels/*.cu; do
    echo "$source"
done | xargs -P 3 -I '{}' sh -c \
    "$compiler $flags $* -x c++ -c '{}' -o '$objects'/\$(basename '{}').o || exit 255"
"$compiler" -shared -pthread "$@" "$objects"/*.o -Wl,-soname,libcuda.so.1 -o "$folder/libcuda.so.1"
# The first name that is looked for: no driver of the machine comes before it.
ln -sf libcuda.so.1 "$folder/libcuda.so"
rm -r "$objects"
