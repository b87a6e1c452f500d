#!/usr/bin/env bash
# Measures Warifu beside what a user would pick instead, on this machine, in one go, and writes a table.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: bench/compare.sh [--seconds N] [--connections N] [--accounts N] [--runs N] [--pool N] [--out FILE]

Measures, one after the other and all of it again for each run:
  pgbench   PostgreSQL alone, TPC-B-like, prepared statements
  plain     one transaction a payment on PostgreSQL (bench/plain), all to one merchant, and spread over many
  warifu    `warifu bench pay-only`
and writes the median run of each to a Markdown table.

  --seconds N       how long each is measured [10]
  --connections N   of the load, kept open [64]
  --accounts N      of payers [3000]
  --runs N          of each; the median counts [3]
  --pool N          connections of the plain service to PostgreSQL [32]
  --out FILE        where the table goes [bench/results/DATE.md]

Environment:
  WARIFU   the program [target/release/warifu]
  PG_BIN   folder of PostgreSQL's programs [Debian's newest, then the path]
  TMPDIR   a folder on the disk that shall be measured [/var/tmp]
EOF
}

seconds=10 connections=64 accounts=3000 runs=3 pool=32 out=
merchants_many=1000 warm_up_seconds=2
# More than any of them pays in a second here; those that are left over cost nothing.
codes_per_second=20000

. "$(dirname "$0")/cluster.sh"

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      usage
      exit 0
      ;;
    --seconds | --connections | --accounts | --runs | --pool)
      [[ ${2:-} =~ ^[1-9][0-9]{0,6}$ ]] || die "$1 takes a number from 1 on: see --help"
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
out=${out:-$here/results/$(date -u +%F).md}
warifu=${WARIFU:-$here/../target/release/warifu}

need jq jq
need cargo cargo
find_postgres
[ -x "$warifu" ] || die "$warifu is missing: cargo build --release, or set WARIFU to the program"

# At rest: nobody pays for what another left to be written.
settle() {
  ask checkpoint
  sync
  sleep 1
}

# note NAME JSON: one run's figures.
note() {
  jq -c --arg name "$1" '{name: $name} + .' <<<"$2" >>"$work/runs.jsonl"
  say "  $1: $(jq -r '"\(.per_second)/s, p50 \(.p50_us) µs, p99 \(.p99_us) µs"' <<<"$2")"
}

# Commits of a database, and syncs of the WAL, so far.
commits() { ask "select xact_commit from pg_stat_database where datname = '$1'"; }
syncs() { ask "select wal_sync from pg_stat_wal" 2>/dev/null || echo 0; }

# batch DATABASE COMMITS SYNCS: commits for each sync since then. Backends report once a second, at the latest when they end.
batch() {
  sleep 1
  jq -n --argjson commits "$(($(commits "$1") - $2))" --argjson syncs "$(($(syncs) - $3))" \
    'if $syncs > 0 then ($commits / $syncs * 10 | round / 10) else null end'
}

run_pgbench() {
  local options=(--client="$connections" --jobs="$(nproc)" --protocol=prepared --no-vacuum pgbench) c s rate
  settle
  c=$(commits pgbench) s=$(syncs)
  await "$pg/pgbench" --time="$warm_up_seconds" "${options[@]}" >/dev/null 2>&1
  rm -f "$work"/latency.*
  await "$pg/pgbench" --time="$seconds" --log --log-prefix="$work/latency" "${options[@]}" >"$work/pgbench.txt" 2>"$work/pgbench.err" ||
    die "pgbench failed: $(cat "$work/pgbench.err")"
  rate=$(awk '/^tps = / { print int($3) }' "$work/pgbench.txt")
  awk '{ print $3 }' "$work"/latency.* | sort -n >"$work/latencies"
  note pgbench "$(jq -n --argjson per_second "$rate" --argjson p50_us "$(quantile 50)" --argjson p99_us "$(quantile 99)" \
    --argjson batch "$(batch pgbench "$c" "$s")" '$ARGS.named')"
}

# quantile PERCENT: of the sorted latencies.
quantile() {
  local count
  count=$(wc -l <"$work/latencies")
  sed -n "$(((count * $1 + 99) / 100))p" "$work/latencies"
}

# run_plain NAME MERCHANTS
run_plain() {
  local codes=$(((seconds + warm_up_seconds) * codes_per_second)) c s json
  await "$plain" prepare --database="$database" --accounts="$accounts" --merchants="$2" --codes="$codes"
  start_plain "$pool"
  settle
  c=$(commits plain) s=$(syncs)
  await "$plain" load --authority="$authority" --connections="$connections" --merchants="$2" --codes="$codes" \
    --warm-up-seconds="$warm_up_seconds" --seconds="$seconds" >"$work/load.json" || die "the load on the plain service had errors"
  stop_plain
  await "$plain" check --database="$database" --approved="$(jq .approved_with_warm_up "$work/load.json")"
  json=$(jq --argjson batch "$(batch plain "$c" "$s")" \
    '{per_second, p50_us: .latency_us.whole.p50, p99_us: .latency_us.whole.p99, batch: $batch}' "$work/load.json")
  note "$1" "$json"
}

run_warifu() {
  settle
  await "$warifu" --json bench pay-only --connections "$connections" --accounts "$accounts" --seconds "$seconds" \
    >"$work/warifu.json" 2>"$work/warifu.err" || die "warifu bench failed: $(tail -n 5 "$work/warifu.err" "$work/warifu.json")"
  note warifu "$(jq '{per_second, p50_us: .latency_us.whole.p50, p99_us: .latency_us.whole.p99,
    batch: (.batch_mean_hundredths / 10 | round / 10)}' "$work/warifu.json")"
}

# row NAME WHAT CONDITIONS…: the median run; of an even number the lower of the two in the middle.
row() {
  local name=$1 what=$2
  shift 2
  jq -rs --arg name "$name" --arg what "$what" '
    def median(of): map(select(.name == of)) | sort_by(.per_second) | .[(length - 1) / 2 | floor];
    def ms: . / 10 | round / 100;
    def times(of): . / (of.per_second) * 10 | round / 10 | "\(.) ×";
    median("plain, one merchant") as $one | median("plain, many merchants") as $many | [.[] | select(.name == $name) | .per_second] as $all | median($name)
    | "| \($what) | \(.per_second) | \($all | min)–\($all | max) | \(.p50_us | ms) | \(.p99_us | ms)"
    + " | \(.per_second | times($one)) | \(.per_second | times($many)) | \(.batch // "–") | " + ($ARGS.positional | join(" | ")) + " |"
  ' "$work/runs.jsonl" --args "$@"
}

# Synced writes of 8 KiB in a second, one after the other.
disk_per_second() {
  local count=2000
  LC_ALL=C dd if=/dev/zero of="$work/disk" bs=8k count=$count conv=fsync 2>/dev/null
  LC_ALL=C dd if=/dev/zero of="$work/disk" bs=8k count=$count conv=notrunc oflag=dsync 2>&1 |
    awk -F', ' -v count=$count '/copied/ { print int(count / $(NF - 1)) }'
}

show() { ask "select string_agg(name || '=' || current_setting(name), ', ' order by name) from pg_settings where name in ($1)"; }

table() {
  local durable
  durable="PostgreSQL: $(show "'fsync', 'synchronous_commit', 'full_page_writes'")"
  cat <<EOF
# Warifu beside what a user would pick instead

$(date -u '+%F %H:%M') UTC. Runs of each: $runs, of $seconds s, in turns; the table has the one of the median rate.
Load and servers share the machine. What is compared, and how far it is fair: [bench/README.md](https://github.com/warifu/warifu/blob/main/bench/README.md).

| what | a second | lowest–highest | p50, ms | p99, ms | to plain, one merchant | to plain, $merchants_many merchants | commits a sync | accounts | share of the hottest merchant | signed | durable by |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
$(row pgbench "pgbench, TPC-B-like, no HTTP" "$((scale * 100000))" "1/$scale (branch)" no "$durable")
$(row "plain, one merchant" "plain service, one merchant" "$accounts" all no "$durable")
$(row "plain, many merchants" "plain service, $merchants_many merchants" "$accounts" "1/$merchants_many" no "$durable")
$(row warifu "Warifu, \`bench pay-only\`" "$accounts" all "$(jq -r .signed "$work/warifu.json"), both ways" "$(jq -r .durability "$work/warifu.json")")

- Load: closed loop, $connections connections kept open; one transaction of pgbench, one payment of the others.
- Commits a sync: of PostgreSQL, transactions for each sync of its WAL; of Warifu, entries in each commit.
- Hardware: $(nproc) cores, $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(awk '/^MemTotal/ { print int($2 / 1048576 + 0.5) }' /proc/meminfo) GiB; $(uname -sr); disk: $(df --output=fstype "$work" | tail -n 1), $(disk_per_second) synced writes of 8 KiB a second.
- PostgreSQL $(ask "show server_version"), new cluster, $(show "'shared_buffers', 'max_connections', 'max_wal_size', 'wal_sync_method'"), all else as it comes; unix socket; plain service's pool: $pool connections.
- Warifu $("$warifu" --version | awk '{ print $2 }')$(revision); accounts and codes of all were made before the clock started.
EOF
}

revision() { git -C "$here" describe --always --dirty 2>/dev/null | sed 's/^/, repository at /' || true; }

build_plain
make_folder
memory_mb=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
buffers_mb=$((memory_mb / 4 < 2048 ? memory_mb / 4 : 2048))
say "starting a PostgreSQL of its own in $work"
start_cluster "$buffers_mb" $((connections > pool ? connections + 20 : pool + 20))
# A branch for each connection: with fewer they would wait for each other's.
scale=$(((accounts + 99999) / 100000))
scale=$((scale > connections ? scale : connections))
say "filling pgbench with $((scale * 100000)) accounts"
ask "create database pgbench"
await "$pg/pgbench" --initialize --quiet --scale="$scale" pgbench >/dev/null 2>&1 || die "pgbench could not be filled"

for run in $(seq "$runs"); do
  say "run $run of $runs"
  run_pgbench
  run_plain "plain, one merchant" 1
  run_plain "plain, many merchants" "$merchants_many"
  run_warifu
done

mkdir -p "$(dirname "$out")"
table >"$work/table.md"
cp "$work/table.md" "$out"
say "written to $out"
