#!/bin/sh
# Bytes of code and constants that assignment adds to an empty program for a Cortex-M4F or M7: opt-level s, link-time optimisation.
#   bash tests/code-size/measure.sh
# Needs the target (rustup target add thumbv7em-none-eabihf), or a rustc with its library's source beside it for -Zbuild-std (Debian: rustc-web,
# cargo-web, rust-web-src), and readelf. Where there is neither it says so and ends well.
set -eu
cd "$(dirname "$0")"
target=thumbv7em-none-eabihf
folder="${CARGO_TARGET_DIR:-target}/code-size"
lld="$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld"
standard=
if ! command -v readelf >/dev/null || ! [ -x "$lld" ]; then
    echo "skipped: no readelf, or no rust-lld in $(rustc --print sysroot)"
    exit 0
fi
if [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    cargo=cargo
elif [ -d /usr/lib/rustlib/src/rust/library ] && [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ]; then
    cargo=/usr/bin/cargo
    standard="-Zbuild-std=core,panic_abort"
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
else
    echo "skipped: no $target; try: rustup target add $target"
    exit 0
fi
export RUSTFLAGS="-C linker-flavor=ld.lld -C linker=$lld -C link-arg=--gc-sections"

# Bytes of code and of constants in flash, without the tables that unwind stacks.
bytes() {
    # shellcheck disable=SC2086
    "$cargo" build --release --quiet --target "$target" --target-dir "$folder" $standard --no-default-features --features "$1"
    readelf -SW "$folder/$target/release/code-size" | awk '
        function number(hex,    i, n) { for (i = 1; i <= length(hex); i++) n = 16 * n + index("0123456789abcdef", substr(hex, i, 1)) - 1; return n }
        { sub(/^ *\[ *[0-9]+\] */, "") }
        $1 ~ /^\.(text|rodata|data)/ { sum += number($5) }
        END { print sum + 0 }'
}

empty=$(bytes "")
for cost in f32 f64 i32; do
    echo "$cost, 7 x 100, u16: $(($(bytes "$cost") - empty)) bytes with every option, $(($(bytes "$cost,default-options") - empty)) with the default ones"
done
