#!/usr/bin/env bash
# Measures over HTTP what a long past costs: an issuer with many accounts and payments beside an empty one, in turns.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: bench/history.sh [--accounts N] [--payments N] [--payers N] [--seconds N] [--runs N] [--rate N] [--out FILE]

Makes a network of a hub and two issuers in a temporary folder, each server a process of its own. The books of one issuer
are filled with `warifu bench fill`; then `warifu bench pay-only` pays at either in turns, while the other is stopped.

  --accounts N   of the history [1000000]
  --payments N   of the history [20000000]
  --payers N     accounts that pay while it is measured, linked anew for each run [20000]
  --seconds N    how long each run is measured [10]
  --runs N       of each [3]
  --rate N       an open loop of so many a second instead of a closed one
  --out FILE     where the runs go, one JSON object a line [standard output]

A million accounts with 20 million payments take about 15 minutes to make and to be followed, 16 GB of disk and 2 GB of
memory.

Environment:
  WARIFU   the program [target/release/warifu]
  TMPDIR   a folder on the disk that shall be measured [/var/tmp]
USAGE
}

accounts=1000000 payments=20000000 payers=20000 seconds=10 runs=3 rate='' out=/dev/stdout

. "$(dirname "$0")/cluster.sh"

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      usage
      exit 0
      ;;
    --accounts | --payments | --payers | --seconds | --runs | --rate)
      [[ ${2:-} =~ ^[1-9][0-9]{0,8}$ ]] || die "$1 takes a number from 1 on: see --help"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --out)
      out=${2:?--out takes a file}
      shift 2
      ;;
    *) die "no such option: $1, see --help" ;;
  esac
done
warifu=${WARIFU:-$here/../target/release/warifu}

need jq jq
need curl curl
[ -x "$warifu" ] || die "$warifu is missing: cargo build --release, or set WARIFU to the program"
warifu=$(realpath "$warifu")
export RUST_LOG=${RUST_LOG:-error}

hub=http://127.0.0.1:7801
declare -A url=([empty]=http://127.0.0.1:7811 [filled]=http://127.0.0.1:7812)

# until_ready URL PID
until_ready() {
  until curl -sf "$1/readyz" >/dev/null; do
    kill -0 "$2" 2>/dev/null || die "a server did not start: see what is above"
    sleep 0.2
  done
}

# make_issuer NAME PREFIX
make_issuer() {
  "$warifu" issuer init --dir "$1" --name "$1" --prefix "$2" --currency JPY --kind prepaid \
    --network registrar/network.json --hub "$hub" --listen "${url[$1]#http://}" >/dev/null
  "$warifu" registrar add issuer "$1/issuer.card.json" --dir registrar >/dev/null
}

make_network() {
  cd "$work"
  {
    "$warifu" registrar init --dir registrar
    "$warifu" hub init --dir hub --network registrar/network.json --listen "${hub#http://}"
    "$warifu" registrar add hub hub/hub.card.json --dir registrar
  } >/dev/null
  "$warifu" hub serve --dir hub &
  until_ready "$hub" $!
  "$warifu" registrar publish --dir registrar >/dev/null
  make_issuer empty 71000001
  make_issuer filled 71000002
  "$warifu" merchant init --dir bakery --name Bakery --category 5462 --network registrar/network.json --hub "$hub" >/dev/null
  "$warifu" registrar add merchant bakery/merchant.card.json --dir registrar >/dev/null
  "$warifu" merchant pair --dir bakery --reader Till >pairing.txt &
  local pairing=$!
  until grep -q '#pair=' pairing.txt; do sleep 0.2; done
  "$warifu" reader pair "$(grep -om1 'http[^ ]*#pair=[^ ]*' pairing.txt)" --dir till --name Till >/dev/null
  wait "$pairing"
}

# lag NAME: entries that views, notices and index of an issuer are behind, in sum.
lag() { curl -sf "${url[$1]}/metrics" | awk '/^warifu_(view|notice|index)_lag_entries / { sum += $2 } END { print sum + 0 }'; }

# serve NAME: sets `server`. Nobody is measured while something still follows the journal.
serve() {
  "$warifu" issuer serve --dir "$1" &
  server=$!
  until_ready "${url[$1]}" "$server"
  local calm=0 behind
  while [ "$calm" -lt 3 ]; do
    sleep 1
    behind=$(lag "$1")
    if [ "$behind" = 0 ]; then calm=$((calm + 1)); else calm=0; fi
    [ $((SECONDS % 15)) != 0 ] || [ "$behind" = 0 ] || say "  $1: views, notices and index are $behind entries behind"
  done
}

# run NAME
run() {
  serve "$1"
  local line
  line=$("$warifu" --json bench pay-only --accounts "$payers" --seconds "$seconds" ${rate:+--rate "$rate"} --limits-seconds 0 \
    --hub "$hub" --issuer "${url[$1]}" --operator-key "$1/operator.key" --reader till) || die "the load on $1 had errors: $line"
  line=$(jq -c --arg books "$1" --argjson accounts "$accounts" --argjson payments "$payments" --argjson rss "$(resident "$server")" \
    '{books: $books, of_history: {accounts: $accounts, payments: $payments}, resident_mib: $rss} + .' <<<"$line")
  printf '%s\n' "$line" >>"$work/runs.jsonl"
  printf '%s\n' "$line" >>"$out"
  say "  $1: $(jq -r '"\(.per_second)/s, p50 \(.latency_us.whole.p50) µs, p99 \(.latency_us.whole.p99) µs"' <<<"$line")"
  kill "$server"
  wait "$server" || die "the issuer $1 did not end well"
}

resident() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$1/status"; }

# median BOOKS FIELD
median() { jq -s --arg books "$1" "[.[] | select(.books == \$books) | $2] | sort | .[(length - 1) / 2 | floor]" "$work/runs.jsonl"; }

make_folder
make_network
say "filling the books of one issuer: $accounts accounts, $payments payments"
await "$warifu" bench fill --dir filled --accounts "$accounts" --payments "$payments" >&2
say "$(du -sh filled/data | cut -f1) on disk"
for number in $(seq "$runs"); do
  say "run $number of $runs"
  run empty
  run filled
done
jq -n --argjson rate "[$(median empty .per_second), $(median filled .per_second)]" \
  --argjson p99_us "[$(median empty .latency_us.whole.p99), $(median filled .latency_us.whole.p99)]" -r '
  "medians, empty and filled:",
  "  \($rate[0]) and \($rate[1]) payments/s: \($rate[1] / $rate[0] * 100 | round / 100) ×",
  "  p99 \($p99_us[0]) and \($p99_us[1]) µs: \($p99_us[1] / $p99_us[0] * 100 | round / 100) ×"' >&2
