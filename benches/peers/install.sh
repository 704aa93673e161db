#!/usr/bin/env bash
# Installs what the benches compare with, and the load generators, below .quern/peers/; with the
# argument `torch` PyTorch alone, which the other benches don't need. Nothing outside that folder is
# changed. What is there already is kept.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
peers="$(cd "$here/../.." && pwd)/.quern/peers"
wasmtime_version=48.0.8
mkdir -p "$peers/bin"

fail() {
    echo "benches/peers/install.sh: $1" >&2
    exit 1
}

# A shell script below bin/, from standard input.
write_program() {
    rm -f "$peers/bin/$1"
    { echo "#!/bin/sh" && cat; } >"$peers/bin/$1"
    chmod +x "$peers/bin/$1"
}

# A program of Debian's: the one on the PATH, or the package and its libraries, unpacked.
install_debian() {
    local program="$1" found
    shift
    if found="$(command -v "$program")"; then
        ln -sf "$found" "$peers/bin/$program"
        return
    fi
    command -v apt-get >/dev/null || fail "$program is missing: install it, and try again"
    echo "== fetching $program"
    local unpacked="$peers/$program"
    rm -rf "$unpacked"
    mkdir -p "$unpacked/packages"
    (cd "$unpacked/packages" && apt-get download -qq "$@") ||
        fail "apt-get could not fetch $program: try apt-get update, or install $program yourself"
    local package
    for package in "$unpacked"/packages/*.deb; do
        dpkg -x "$package" "$unpacked"
    done
    write_program "$program" <<EOF
LD_LIBRARY_PATH="$(echo "$unpacked"/usr/lib/*-linux-gnu)" exec "$unpacked/usr/bin/$program" "\$@"
EOF
}

# wasmtime's command line with the features that serving HTTP uses, all on by default.
install_wasmtime() {
    echo "== building wasmtime $wasmtime_version (minutes)"
    cargo install "wasmtime-cli@$wasmtime_version" --locked --root "$peers" --no-default-features \
        --features run,serve,cranelift,component-model,component-model-async \
        --features pooling-allocator,parallel-compilation,backtrace
}

# A virtual environment with what a file of this folder pins; further arguments are pip's.
install_environment() {
    local name="$1" requirements="$here/$2"
    shift 2
    rm -rf "${peers:?}/$name"
    python3 -m venv "$peers/$name"
    "$peers/$name/bin/pip" install --quiet --disable-pip-version-check "$@" \
        --requirement "$requirements" ||
        fail "pip could not install what ${requirements##*/} pins: see its message above"
}

# An environment counts as installed once all of it is.
is_installed() {
    cmp -s "$here/$2" "$peers/$1/installed.txt"
}

install_python() {
    echo "== installing FastAPI, LitServe and ONNX Runtime"
    install_environment python requirements.txt
    write_program python <<EOF
exec "$peers/python/bin/python" "\$@"
EOF
    cp "$here/requirements.txt" "$peers/python/installed.txt"
}

install_mlserver() {
    echo "== installing MLServer"
    install_environment mlserver requirements-mlserver.txt
    write_program mlserver <<EOF
exec "$peers/mlserver/bin/mlserver" "\$@"
EOF
    cp "$here/requirements-mlserver.txt" "$peers/mlserver/installed.txt"
}

# The server of the wheel, without the library around it. Its Python backend looks in its own folder
# for the program that runs models, of which there is one for each version of Python; and that finds
# the packages of the first python3 on the PATH.
install_triton() {
    echo "== installing Triton"
    install_environment triton requirements-triton.txt --no-deps
    local packages library version
    packages="$("$peers/triton/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    library="$("$peers/triton/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')"
    version="$("$peers/triton/bin/python" -c 'import sysconfig; print(sysconfig.get_python_version())')"
    local server="$packages/pytriton/tritonserver" backends="$peers/triton/backends"
    local stub="$server/python_backend_stubs/$version/triton_python_backend_stub"
    [ -x "$stub" ] || fail "Triton's Python backend does not come for Python $version"
    mkdir -p "$backends"
    cp -r "$server/backends/python" "$backends/"
    cp "$stub" "$backends/python/"
    write_program triton <<EOF
LD_LIBRARY_PATH="$packages/nvidia_pytriton.libs:$library" PATH="$peers/triton/bin:\$PATH" \\
    exec "$server/bin/tritonserver" --backend-directory "$backends" "\$@"
EOF
    cp "$here/requirements-triton.txt" "$peers/triton/installed.txt"
}

install_queues() {
    echo "== installing RQ and Celery"
    install_environment queues requirements-queues.txt
    write_program queues-python <<EOF
PATH="$peers/queues/bin:\$PATH" exec "$peers/queues/bin/python" "\$@"
EOF
    cp "$here/requirements-queues.txt" "$peers/queues/installed.txt"
}

install_torch() {
    echo "== installing PyTorch (4 GB)"
    install_environment torch requirements-torch.txt --no-deps
    write_program torch-python <<EOF
exec "$peers/torch/bin/python" "\$@"
EOF
    cp "$here/requirements-torch.txt" "$peers/torch/installed.txt"
}

if [ "${1:-}" = torch ]; then
    is_installed torch requirements-torch.txt || install_torch
    exit
fi
[ -x "$peers/bin/wrk" ] || install_debian wrk wrk libluajit-5.1-2 libluajit-5.1-common
[ -x "$peers/bin/h2load" ] ||
    install_debian h2load nghttp2-client libnghttp2-14 libev4 libjansson4 libjemalloc2
[ -x "$peers/bin/redis-server" ] ||
    install_debian redis-server redis-server redis-tools liblzf1 libjemalloc2 liblua5.1-0 lua-bitop \
        lua-cjson libatomic1
[ "$("$peers/bin/wasmtime" --version 2>/dev/null | cut -d' ' -f2)" = "$wasmtime_version" ] ||
    install_wasmtime
is_installed python requirements.txt || install_python
is_installed mlserver requirements-mlserver.txt || install_mlserver
is_installed triton requirements-triton.txt || install_triton
is_installed queues requirements-queues.txt || install_queues
