#!/bin/sh
# Builds the fuzz targets and runs each for at most RUNS inputs and SECONDS seconds; a crash or a hang ends it with
# status 1. Needs neither cargo-fuzz nor a nightly compiler.
#
#   fuzz/run.sh RUNS SECONDS [CORPUS]
#
# Begins with fuzz/seeds, and keeps what it finds in CORPUS, if that is given.
set -eu
runs=$1 seconds=$2 corpus=${3:-}
cd "$(dirname "$0")/.."
: "${CARGO:=cargo}" "${CARGO_TARGET_DIR:=$PWD/target}"
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
RUSTC_WRAPPER="$PWD/fuzz/instrument" $CARGO build --release --locked --bins --manifest-path fuzz/Cargo.toml

artifacts="$CARGO_TARGET_DIR/artifacts/"
mkdir -p "$artifacts"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
failed=""
for path in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$path" .rs)
    found=${corpus:-$scratch}/$target
    mkdir -p "$found"
    echo "fuzz/run.sh: $target"
    # A run that is a test gives the same result again; a long one looks elsewhere each time.
    seed=0
    [ -n "$corpus" ] || seed=1
    "$CARGO_TARGET_DIR/release/$target" -runs="$runs" -max_total_time="$seconds" -timeout=10 \
        -seed="$seed" -artifact_prefix="$artifacts$target-" -print_final_stats=1 -verbosity=0 \
        "$found" "fuzz/seeds/$target" > "$scratch/$target.log" 2>&1 || {
        cat "$scratch/$target.log" >&2
        echo "fuzz/run.sh: $target fails; the input is the file that the log names, and fails again with:" >&2
        echo "  $CARGO_TARGET_DIR/release/$target FILE" >&2
        failed="$failed $target"
    }
    sed -n 's/^stat::number_of_executed_units: */  inputs: /p' "$scratch/$target.log"
done
[ -z "$failed" ] || { echo "fuzz/run.sh: failed:$failed" >&2; exit 1; }
