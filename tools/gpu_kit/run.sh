#!/usr/bin/env bash
# Run a kit on a GPU machine: every step with a limit of its own, its log and status kept, and a report at the end.
#
#   bash run.sh                    everything, at most 25 minutes; run it again to go on where it stopped
#   bash run.sh --minutes 9        stop after 9 minutes; run it again to go on
#   bash run.sh --quick            the smallest model only; what needs a GPU is reported as not run where there is none
#   bash run.sh STEP ...           these steps, also those that are done
#
# Options: --python PYTHON (its torch is used; default python3), --work DIR and --results DIR (default: kit-work and
# kit-results in the kit's folder), --minutes N, --limit SECONDS (of one step; default 480), --quick, --list, --help.
# Exit code: 0 all steps done or not possible here, 1 a step failed, 2 a wrong call or a damaged kit.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kit=$here
[ -e "$kit/manifest.json" ] || kit=$here/../../build/gpu-kit # called in the repository: the kit that was packed there
python=python3 minutes=25 limit=480 quick="" list="" work="" results="" chosen=()

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
fail() { echo "error: $*" >&2; exit 2; }

while [ $# -gt 0 ]; do
  case $1 in
    --python | --minutes | --limit | --work | --results)
      [ $# -ge 2 ] || fail "$1 needs a value; see run.sh --help"
      declare "${1#--}=$2"; shift 2 ;;
    --quick) quick=--quick; shift ;;
    --list) list=1; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) fail "unknown option $1; see run.sh --help" ;;
    *) chosen+=("$1"); shift ;;
  esac
done
[[ $minutes =~ ^[1-9][0-9]*$ ]] || fail "--minutes $minutes is not a whole number of minutes"
[[ $limit =~ ^[1-9][0-9]*$ ]] || fail "--limit $limit is not a whole number of seconds"
most=$limit
command -v "$python" >/dev/null || fail "$python was not found; name the Python that has torch: run.sh --python PYTHON"
work=${work:-$kit/kit-work} results=${results:-$kit/kit-results}
mkdir -p "$work" "$results/steps" || exit 2
work=$(cd "$work" && pwd) results=$(cd "$results" && pwd)
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_INDEX=1 HF_HUB_OFFLINE=1
export DPT_DEPLOY_CACHE=$work/cache TORCHINDUCTOR_CACHE_DIR=$work/inductor TRITON_CACHE_DIR=$work/triton TMPDIR=$work/tmp
mkdir -p "$TMPDIR"
unset PYTHONPATH PYTHONHOME

if command -v flock >/dev/null; then # a step that outlives its run keeps this lock
  exec 9>"$work/.lock"
  flock -n 9 || fail "another run works in $work; wait for it, or name another folder with --work"
fi

steps() { "$python" "$here/steps.py" --kit "$kit" --work "$work" --results "$results" $quick "$@"; }

list_of_steps=$(steps list) || exit 2 # also: is the kit whole, and is this the Python that it is for?
[ -z "$list" ] || { echo "$list_of_steps"; exit 0; }
for name in ${chosen[@]+"${chosen[@]}"}; do
  grep -q "^$name " <<<"$list_of_steps" || fail "no step $name; see run.sh --list"
  rm -f "$results/steps/$name.status"
done

cmp -s "$kit/manifest.json" "$work/manifest.json" || rm -f "$results/steps/unpack.status" # another kit than last time

# Status, seconds and reason of a step, written atomically: a step that is killed half-way has none and runs again.
record() { printf '%s\t%s\t%s\n' "$2" "$3" "$4" >"$results/steps/.new" && mv "$results/steps/.new" "$results/steps/$1.status"; }

# A run that is ended ends its step too; the step then has no status and runs again.
child=""
trap '[ -z "$child" ] || kill $child; exit 130' INT TERM HUP

failed=0 deadline=$((SECONDS + 60 * minutes))
while read -r name limit; do
  [ ${#chosen[@]} -eq 0 ] || [[ " ${chosen[*]} " == *" $name "* ]] || continue
  status=$results/steps/$name.status log=$results/steps/$name.log
  if [ -e "$status" ] && [ "$(cut -f1 "$status")" = done ]; then
    echo "$name: done before"
    continue
  fi
  left=$((deadline - SECONDS - 20))
  if [ $left -lt 20 ]; then
    record "$name" "not run" 0 "no time left of $minutes minutes: run it again"
    echo "$name: not run, no time left"
    continue
  fi
  [ "$limit" -le "$most" ] || limit=$most
  [ "$limit" -le $left ] || limit=$left
  begin=$SECONDS
  timeout -k 10 "$limit" "$python" "$here/steps.py" --kit "$kit" --work "$work" --results "$results" $quick run "$name" \
    >"$log" 2>&1 </dev/null &
  child=$!
  wait $child
  code=$? took=$((SECONDS - begin)) child=""
  reason=$(tail -n 1 "$log" | cut -c1-300)
  case $code in
    0) verdict=done reason="" ;;
    77) verdict="not run" ;;
    124 | 137) verdict="timed out" reason="its limit was $limit s" ;;
    *) verdict=failed failed=1 ;;
  esac
  record "$name" "$verdict" $took "$reason"
  echo "$name: $verdict after $took s${reason:+: $reason}"
  [ "$name" != unpack ] || [ $code -eq 0 ] || break # nothing can run without what is unpacked
done <<<"$list_of_steps"

steps report || failed=1
exit $failed
