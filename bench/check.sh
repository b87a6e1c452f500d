#!/usr/bin/env bash
# Checks that the comparison works; it measures nothing worth telling. Not a part of ./test: it takes minutes.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: bench/check.sh

Checks the scripts, lints and builds bench/plain, runs it on a PostgreSQL of its own, and, when the program is built,
compares for a second. Environment: as of bench/compare.sh.
EOF
}

. "$(dirname "$0")/cluster.sh"

case ${1:-} in
  --help | -h)
    usage
    exit 0
    ;;
  '') ;;
  *) die "no such option: $1, see --help" ;;
esac

need jq jq
need curl curl
need cargo cargo
find_postgres

# fails WHAT COMMAND…: whether it refuses what it has to.
fails() {
  local what=$1
  shift
  if "$@" >/dev/null 2>&1; then die "$what was not refused"; fi
}

# expect WANTED GOT
expect() { [ "$1" = "$2" ] || die "line ${BASH_LINENO[0]}: wanted $1, got $2"; }

# pay REQUEST CODE MINOR: the answer, and the status after a space.
pay() {
  curl --silent --write-out ' %{http_code}' --header 'content-type: application/json' --header 'x-merchant: 0' \
    --data "{\"request_id\":\"$1\",\"code\":\"$2\",\"amount\":{\"minor\":$3,\"currency\":\"JPY\"},\"capture\":\"now\"}" \
    "http://$authority/v1/payments"
}

check_scripts() {
  for script in "$here"/*.sh; do bash -n "$script"; done
  "$here/compare.sh" --help >/dev/null
  fails "an unknown option" "$here/compare.sh" --fast
  fails "a number that is none" "$here/compare.sh" --seconds x
  fails "a missing program" env WARIFU=/nonexistent "$here/compare.sh"
}

check_answers() {
  local code spare first
  code=$(ask "select code from codes where not is_used order by code limit 1" plain)
  spare=$(ask "select code from codes where not is_used order by code desc limit 1" plain)
  first=$(pay check-1 "$code" 7)
  expect approved "$(jq -r .status <<<"${first% *}")"
  expect "$first" "$(pay check-1 "$code" 7)"
  expect '{"code":"request_id_conflict"} 409' "$(pay check-1 "$code" 8)"
  expect code_used "$(pay check-2 "$code" 7 | jq -r '.rejection? // empty')"
  expect code_unknown "$(pay check-3 000000000000000000000000 7 | jq -r '.rejection? // empty')"
  expect insufficient_funds "$(pay check-4 "$spare" 999999999999 | jq -r '.rejection? // empty')"
  # All at once with one request id: one payment, and everybody hears of it.
  export -f pay
  export authority
  expect 1 "$(seq 16 | xargs -P 16 -I _ bash -c "answer=\$(pay check-5 $spare 7); echo \"\$answer\"" | sort -u | wc -l)"
  expect 1 "$(ask "select count(*) from payments where request_id = 'check-5' and status = 'approved'" plain)"
}

check_plain() {
  cargo fmt --manifest-path="$here/plain/Cargo.toml" --check
  cargo clippy --manifest-path="$here/plain/Cargo.toml" --release --locked --quiet -- -D warnings
  build_plain
  start_cluster 128 40
  "$plain" prepare --database="$database" --accounts=100 --merchants=3 --codes=50000
  start_plain 8
  "$plain" load --authority="$authority" --connections=8 --merchants=3 --codes=50000 --warm-up-seconds=0 --seconds=2 >"$work/load.json"
  expect 0 "$(jq .errors "$work/load.json")"
  check_answers
  stop_plain
  local approved
  approved=$(($(jq .approved_with_warm_up "$work/load.json") + 2))
  "$plain" check --database="$database" --approved="$approved"
  fails "a payment that is not in the books" "$plain" check --database="$database" --approved=$((approved + 1))
  ask "update merchants set balance_minor = balance_minor + 1 where id = 1" plain
  fails "a balance that the ledger does not give" "$plain" check --database="$database" --approved="$approved"
}

say "the scripts"
check_scripts
make_folder
say "the plain service"
check_plain
warifu=${WARIFU:-$here/../target/release/warifu}
if [ -x "$warifu" ]; then
  say "a comparison of a second"
  "$here/compare.sh" --seconds 1 --runs 2 --accounts 100 --connections 8 --pool 8 --out "$work/table.md"
  expect 4 "$(grep -cE '^\| (pgbench|plain|Warifu).* × ' "$work/table.md")"
  say "a short past"
  "$here/history.sh" --accounts 1000 --payments 20000 --payers 100 --seconds 1 --runs 1 --out "$work/history.jsonl"
  expect 2 "$(jq -s 'map(select(.errors == 0 and .done > 0)) | length' "$work/history.jsonl")"
else
  say "no comparison: $warifu is not built"
fi
say "all is well"
