#!/usr/bin/env bash
# Checks and tests the alert rules with promtool: the one on the PATH, or Debian's, which is
# unpacked below .quern/prometheus. Where neither can be had, it says so and checks nothing.
set -euo pipefail

root="$(cd "$(dirname "$0")/.." && pwd)"
folder="$root/.quern/prometheus"
promtool="$(command -v promtool || true)"

if [ -z "$promtool" ]; then
    promtool="$folder/usr/bin/promtool"
    if [ ! -x "$promtool" ]; then
        echo "== fetching promtool"
        mkdir -p "$folder"
        if ! (cd "$folder" && apt-get download -qq prometheus && dpkg -x prometheus_*.deb .); then
            echo "SKIPPED: promtool is not here and apt-get could not fetch it, so that the alert" \
                "rules were not checked: install Debian's package prometheus"
            exit 0
        fi
        rm -f "$folder"/prometheus_*.deb
    fi
fi

cd "$root/deploy/prometheus"
"$promtool" check rules alerts.yml
"$promtool" test rules alerts_test.yml
