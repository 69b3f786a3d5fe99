#!/usr/bin/env bash
# Compares samara.h with what cbindgen makes of src/; `bash check.sh --renew` writes it anew.
# cbindgen is fetched from crates.io into a temporary folder when this machine has not the version below; where that fails, the check is skipped, and
# with CI=true it fails.
set -euo pipefail
cd "$(dirname "$0")"
version=0.29.4
cbindgen=cbindgen
if [ "$(cbindgen --version 2>/dev/null)" != "cbindgen $version" ]; then
    root="${TMPDIR:-/tmp}/samara-cbindgen-$version"
    cbindgen="$root/bin/cbindgen"
    if ! [ -x "$cbindgen" ] && ! CARGO_TARGET_DIR="$root/target" cargo install --quiet --locked --root "$root" --version "$version" cbindgen; then
        echo "skipped: cbindgen $version could not be installed"
        [ "${CI-}" != true ] || exit 1
        exit 0
    fi
fi
header=$(mktemp)
trap 'rm -f "$header"' EXIT
"$cbindgen" --quiet --config cbindgen.toml --crate samara-c --output "$header" .
if [ "${1-}" = --renew ]; then
    cp "$header" samara.h
elif ! diff -u samara.h "$header"; then
    echo "samara.h is not what src/ says: bash core/c/check.sh --renew" >&2
    exit 1
fi
