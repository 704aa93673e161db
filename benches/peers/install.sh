#!/usr/bin/env bash
# Installs what the benches compare with, and the load generator, below .quern/peers/. Nothing
# outside that folder is changed. What is there already is kept.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
peers="$(cd "$here/../.." && pwd)/.quern/peers"
wasmtime_version=48.0.8
mkdir -p "$peers/bin"

fail() {
    echo "benches/peers/install.sh: $1" >&2
    exit 1
}

# wrk: the one on the PATH, or Debian's package and its library, unpacked.
install_wrk() {
    local found
    if found="$(command -v wrk)"; then
        ln -sf "$found" "$peers/bin/wrk"
        return
    fi
    command -v apt-get >/dev/null || fail "wrk is missing: install it, and try again"
    echo "== fetching wrk"
    local unpacked="$peers/wrk"
    rm -rf "$unpacked"
    mkdir -p "$unpacked/packages"
    (cd "$unpacked/packages" && apt-get download -qq wrk libluajit-5.1-2 libluajit-5.1-common) ||
        fail "apt-get could not fetch wrk: try apt-get update, or install wrk yourself"
    local package
    for package in "$unpacked"/packages/*.deb; do
        dpkg -x "$package" "$unpacked"
    done
    cat >"$peers/bin/wrk" <<EOF
#!/bin/sh
LD_LIBRARY_PATH="$(echo "$unpacked"/usr/lib/*-linux-gnu)" exec "$unpacked/usr/bin/wrk" "\$@"
EOF
    chmod +x "$peers/bin/wrk"
}

# wasmtime's command line with the features that serving HTTP uses, all on by default.
install_wasmtime() {
    echo "== building wasmtime $wasmtime_version (minutes)"
    cargo install "wasmtime-cli@$wasmtime_version" --locked --root "$peers" --no-default-features \
        --features run,serve,cranelift,component-model,component-model-async \
        --features pooling-allocator,parallel-compilation,backtrace
}

install_python() {
    echo "== installing FastAPI and ONNX Runtime"
    python3 -m venv "$peers/python"
    "$peers/python/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$here/requirements.txt"
    cat >"$peers/bin/python" <<EOF
#!/bin/sh
exec "$peers/python/bin/python" "\$@"
EOF
    chmod +x "$peers/bin/python"
    cp "$here/requirements.txt" "$peers/python/installed.txt"
}

[ -x "$peers/bin/wrk" ] || install_wrk
[ "$("$peers/bin/wasmtime" --version 2>/dev/null | cut -d' ' -f2)" = "$wasmtime_version" ] ||
    install_wasmtime
cmp -s "$here/requirements.txt" "$peers/python/installed.txt" || install_python
