# Sourced by compare.sh and check.sh: what both need, a folder and a PostgreSQL of their own that go away with them.
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$(basename "$0"): $*"
  exit 1
}

# need PROGRAM PACKAGE: refuses when it is not there.
need() { command -v "$1" >/dev/null || die "$1 is missing: apt-get install $2"; }

# Where PostgreSQL's programs are: $PG_BIN, or Debian's newest, or beside the initdb of the path.
find_postgres() {
  local folder
  for folder in "${PG_BIN:-}" $(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -rV) \
    "$(dirname "$(command -v initdb || echo /)")"; do
    if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && [ -x "$folder/psql" ] && [ -x "$folder/pgbench" ]; then
      pg=$folder
      return
    fi
  done
  die "initdb, pg_ctl, psql and pgbench are missing: apt-get install postgresql, or set PG_BIN to their folder"
}

# PostgreSQL refuses to run as root.
as_owner() {
  if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# A folder on a real disk. Everybody who is measured writes into it.
make_folder() {
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/warifu-bench.XXXXXX")
  case $(stat -f -c %T "$work") in
    tmpfs | ramfs) die "$work lies in memory, where a sync costs nothing: set TMPDIR to a folder on a disk" ;;
  esac
  export TMPDIR=$work
}

# start_cluster SHARED_BUFFERS_MB CONNECTIONS_MAX: durability and all else as PostgreSQL comes, but for what is said here.
start_cluster() {
  chmod 711 "$work"
  mkdir "$work/pg"
  if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || die "the user postgres is missing: apt-get install postgresql"
    chown postgres "$work/pg"
  fi
  chmod 711 "$work/pg"
  (
    cd "$work/pg"
    as_owner "$pg/initdb" --pgdata=data --username=bench --auth=trust --encoding=UTF8 --locale=C >initdb.log
  ) || die "initdb failed"
  as_owner tee -a "$work/pg/data/postgresql.conf" >/dev/null <<EOF
listen_addresses = ''
unix_socket_directories = '$work/pg'
shared_buffers = ${1}MB
max_connections = $2
max_wal_size = 4GB
EOF
  (
    cd "$work/pg"
    as_owner "$pg/pg_ctl" --pgdata=data --log="$work/pg/log" --wait start >/dev/null
  ) || die "PostgreSQL did not start"
  export PGHOST=$work/pg PGUSER=bench PGDATABASE=postgres
  database="host=$work/pg user=bench dbname=plain"
  ask "create database plain"
}

# ask SQL [DATABASE]: one value.
ask() { "$pg/psql" --no-psqlrc --quiet --tuples-only --no-align --dbname="${2:-postgres}" --command="$1"; }

build_plain() {
  say "building bench/plain"
  cargo build --release --locked --quiet --manifest-path="$here/plain/Cargo.toml"
  local target
  target=$(cargo metadata --no-deps --format-version=1 --manifest-path="$here/plain/Cargo.toml" | jq -r .target_directory)
  plain=$target/release/plain
}

# start_plain POOL: sets `authority` and `server`.
start_plain() {
  : >"$work/serve.json"
  "$plain" serve --database="$database" --pool="$1" >"$work/serve.json" &
  server=$!
  for _ in $(seq 100); do
    authority=$(jq -r .listening "$work/serve.json")
    [ -z "$authority" ] || return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  die "the plain service did not start"
}

stop_plain() {
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
}

# await COMMAND…: as in the foreground, but a signal to the script is heard at once.
await() {
  "$@" &
  wait $!
}

clean_up() {
  local status=$?
  trap - EXIT
  local child
  for child in $(jobs -pr); do kill "$child" 2>/dev/null || true; done
  wait
  if [ -n "$work" ]; then
    if [ -e "$work/pg/data/postmaster.pid" ]; then
      as_owner "$pg/pg_ctl" --pgdata="$work/pg/data" --mode=immediate --wait stop >/dev/null || true
    fi
    rm -rf "$work"
  fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
