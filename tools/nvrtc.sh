#!/bin/sh
# Fetches NVIDIA's compiler of kernels (NVRTC and ptxas of CUDA 13.0) from PyPI into .quern/nvrtc/,
# and says where it is: the folder of its library, then the path of ptxas. Nothing is installed
# elsewhere. Needs python3 with pip; no GPU and no driver.
set -eu

# Drivers of the series 580 refuse what newer versions make.
version=13.0.88
folder="$(cd "$(dirname "$0")/.." && pwd)/.quern/nvrtc"

fail() {
    echo "make check-cuda: $1" >&2
    exit 1
}

if [ ! -e "$folder/done-$version" ]; then
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64 | Linux-aarch64) ;;
        *) fail "NVIDIA publishes its compiler for Linux on x86-64 and Arm only" ;;
    esac
    command -v python3 >/dev/null 2>&1 || fail "python3 is missing: install it (Debian: apt install python3 python3-venv)"
    echo "downloading NVRTC and ptxas $version from PyPI" >&2
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    python3 -m venv "$folder" >&2 || fail "python3 makes no virtual environment: install it (Debian: apt install python3-venv)"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: \
        "nvidia-cuda-nvrtc==$version" "nvidia-cuda-nvcc==$version" >&2 ||
        fail "pip could not install NVRTC $version: see its message above (it needs PyPI)"
    touch "$folder/done-$version"
fi

library="$(find "$folder" -name 'libnvrtc.so.13' | head -n 1)"
ptxas="$(find "$folder" -name ptxas -type f | head -n 1)"
[ -n "$library" ] && [ -n "$ptxas" ] || fail "the packages of PyPI have no libnvrtc.so.13 or no ptxas in them"
echo "$(dirname "$library") $ptxas"
