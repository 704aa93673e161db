#!/bin/sh
# Builds the mock driver into a folder: build.sh FOLDER [FLAGS…], and a mock of cuBLASLt into
# FOLDER/cublaslt, so that it is found only where it is wanted. Needs a C++ compiler.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
folder="$1"
shift
compiler="${CXX:-g++}"
objects="$folder/objects"
mkdir -p "$objects" "$folder/cublaslt"
flags="-std=c++17 -O1 -g1 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wno-unknown-pragmas -pthread -DQUERN_MOCK -I$here -I$here/../kernels"
for source in "$here"/*.cpp "$here"/cublaslt/*.cpp "$here"/../kernels/*.cu; do
    echo "$source"
done | xargs -P 3 -I '{}' sh -c \
    "$compiler $flags $* -x c++ -c '{}' -o '$objects'/\$(basename '{}').o || exit 255"
mv "$objects/cublaslt.cpp.o" "$folder/cublaslt/"
"$compiler" -shared -pthread "$@" "$objects"/*.o -Wl,-soname,libcuda.so.1 -o "$folder/libcuda.so.1"
"$compiler" -shared "$@" "$folder/cublaslt/cublaslt.cpp.o" "$objects/halves.cpp.o" \
    "$objects/faults.cpp.o" "$folder/libcuda.so.1" -o "$folder/cublaslt/libcublasLt.so"
# The first name that is looked for: no driver of the machine comes before it.
ln -sf libcuda.so.1 "$folder/libcuda.so"
rm -r "$objects" "$folder/cublaslt/cublaslt.cpp.o"
