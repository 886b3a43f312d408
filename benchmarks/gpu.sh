#!/usr/bin/env bash
# Measures the toolbox on one GPU in less than ten minutes and writes one Markdown file.
#
#   benchmarks/gpu.sh                  # measures on the GPU
#   benchmarks/gpu.sh --dry-run        # the same code on the CPU with tiny networks: a test, no measurement
#   benchmarks/gpu.sh --only trainer   # one section, or several separated by commas
#   benchmarks/gpu.sh --list           # sections, time limits in seconds and commands
#
# --out DIR names a new folder for the results; the table is DIR/gpu.md. PYTHON names the interpreter.
# The table is written after every section. A section that fails or exceeds its limit does not end
# the others; the exit status is then 1. Nothing is downloaded.
set -uo pipefail
command_line="benchmarks/gpu.sh${*:+ $*}"
python=${PYTHON:-python}
out= dry= only= list= device=cuda options=benchmarks/gpu patience=1

usage() { printf 'benchmarks/gpu.sh: %s\n' "$1" >&2; exit 2; }

while (($#)); do
  case $1 in
    --dry-run) dry=1 device=cpu options=benchmarks/gpu/dry patience=20 ;; # CPUs may be busy
    --only) only=,${2:?--only needs the name of a section}, && shift ;;
    --out) out=${2:?--out needs a folder} && shift ;;
    --list) list=1 ;;
    *) usage "unknown argument $1; use --dry-run, --only NAMES, --out DIR or --list" ;;
  esac
  shift
done
[[ -z $out || $out = /* ]] || out=$PWD/$out
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
command -v timeout > /dev/null || usage "needs the command timeout (GNU coreutils)"
[[ -z $dry ]] || export CUDA_VISIBLE_DEVICES= # tests too leave a GPU alone
out=${out:-$PWD/experiments/gpu/$(date -u +%Y%m%d-%H%M%S)}

sections() { # name, limit in seconds, command; the limits add up to less than ten minutes
  local where=(--device "$device" --set "experiments_root=$out") cuda_tests
  # shellcheck disable=SC2207  # no path has a space
  cuda_tests=($(grep -rlE 'mark\.cuda' tests --include='test_*.py' | sort))
  section environment 30 "$python" -m benchmarks.gpu_table --describe "$device" --out "$out"
  section tests 60 "$python" -m pytest -q -m cuda -p no:cacheprovider \
    --junitxml "$out/tests.xml" "${cuda_tests[@]}"
  section deform 25 "$python" -m benchmarks deform --options "$options/deform.yml" "${where[@]}"
  section trainer 80 "$python" -m benchmarks trainer --options "$options/trainer.yml" "${where[@]}"
  section images 60 "$python" -m srtoolbox bench "$options/images.yml" "${where[@]}"
  section bursts 60 "$python" -m srtoolbox bench "$options/bursts.yml" "${where[@]}"
  section clips 60 "$python" -m srtoolbox bench "$options/clips.yml" "${where[@]}"
  section variants 60 "$python" -m srtoolbox bench "$options/variants.yml" "${where[@]}"
  section compile 120 "$python" -m srtoolbox bench "$options/compile.yml" "${where[@]}"
}

section() {
  local name=$1 limit=$(($2 * patience)) code started=$SECONDS
  shift 2
  [[ -z $only || $only = *,$name,* || $name = environment ]] || return 0
  if [[ $mode = plan ]]; then
    printf '%s\t%s\t%s\n' "$name" "$limit" "$*"
    return
  fi
  printf '%s: at most %s s\n' "$name" "$limit"
  timeout --kill-after=2 "$limit" "$@" > "$out/$name.log" 2>&1 &
  child=$!
  wait "$child"
  code=$?
  printf '%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - started))" >> "$out/finished.tsv"
  table > /dev/null
  if [[ $name = environment && $code = 2 ]]; then # there is no such device
    table | head -n 1 >&2
    exit 2
  fi
}

stop() { # ends the running section, so that the table says which sections have ended
  [[ -z $child ]] || { kill "$child" && wait "$child"; } 2> /dev/null
  table > /dev/null
  exit 130
}

table() {
  "$python" -m benchmarks.gpu_table --out "$out" --command "$command_line" ${dry:+--dry-run}
}

mode=plan
if [[ -n $list ]]; then
  sections
  exit
fi
if [[ -e $out && -n $(ls -A "$out") ]]; then
  usage "$out is not empty; name a new folder with --out"
fi
mkdir -p "$out" || exit
sections > "$out/plan.tsv"
known=$(cut -f 1 "$out/plan.tsv")
for name in ${only//,/ }; do
  grep -qx "$name" <<< "$known" || usage "--only $name: no such section; --list names them"
done
child=
trap stop INT TERM
mode=run
: > "$out/finished.tsv"
table > /dev/null
sections
printf 'written to %s\n' "$out/gpu.md"
table
