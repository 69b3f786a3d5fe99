#!/bin/sh
# Builds a no_std program whose panic handler does not exist, and runs it; then proves that the check works: a program of the same profile with one
# indexing that can panic must not link.
set -eu
cd "$(dirname "$0")"
cargo build --release --quiet --bin no-panic "$@"
target="${CARGO_TARGET_DIR:-target}"
"$target/release/no-panic"
if log=$(cargo build --release --quiet --features prove --bin prove "$@" 2>&1); then
    echo "a program with a panic path linked: the check proves nothing" >&2
    exit 1
fi
case $log in
*a_panic_path_is_left*) echo "no panic path" ;;
*)
    echo "$log" >&2
    exit 1
    ;;
esac
