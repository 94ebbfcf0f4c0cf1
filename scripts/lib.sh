# shellcheck shell=bash
# What the scripts agree on: where things are, who runs them, how they talk. Sourced, never run.
# shellcheck disable=SC2034  # its variables are used by the scripts that source it

set -euo pipefail
umask 022 # user postgres must be able to read what a root caller writes

# A nested make must not inherit command-line variables such as PG_CONFIG from the one that called us.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

say() { printf '%s\n' "$@"; } # a line for each argument

die() {
	say "error: $1" "${@:2}" >&2
	exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scripts=$root/scripts
home=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}

# Login shells find cargo by a line in their profile; CI and cron have none.
if ! command -v cargo >/dev/null && [ -x "$home/.cargo/bin/cargo" ]; then
	PATH=$home/.cargo/bin:$PATH
fi

# `make build && sudo make install`: sudo takes away cargo and home, so what the caller built is installed.
under_sudo() { is_root && [ -n "${SUDO_USER:-}" ] && ! command -v cargo >/dev/null; }
if under_sudo; then home=$(getent passwd "$SUDO_USER" | cut -d: -f6); fi

PG=${PG:-15}
case $PG in
1[4-8]) ;;
*) die "PG must be a PostgreSQL major from 14 to 18, not '$PG'" ;;
esac

cache=$(realpath -m -- "${VECTOR_EMBED_CACHE:-$home/.cache/vector_embed}")
prefix_base=$(realpath -ms -- "${VECTOR_EMBED_PREFIX:-/var/tmp/vector_embed-$(id -u)}")
prefix=$prefix_base/pg$PG
system_pg_config=/usr/lib/postgresql/$PG/bin/pg_config
private_pg_config=$prefix/lib/postgresql/$PG/bin/pg_config

onnxruntime_version=1.31.1
onnxruntime=$cache/onnxruntime-$onnxruntime_version
# Another build of it, with OpenVINO beside it, which not everybody has: an installation does without.
openvino_version=1.24.1
openvino=$cache/onnxruntime-openvino-$openvino_version
openvino_libraries=(libonnxruntime.so libonnxruntime_providers_openvino.so libonnxruntime_providers_shared.so
	libopenvino.so.2541 libopenvino_intel_cpu_plugin.so libopenvino_onnx_frontend.so.2541 libtbb.so.12)
have_openvino() { [ -f "$openvino/LICENSE" ]; }
model_name=all-MiniLM-L6-v2
model=$cache/models/$model_name
documentation=$cache/postgresql-doc
pgvector_version=0.8.0
pgvector_tarball=$cache/pgvector-$pgvector_version.tar.gz

# From PostgreSQL 17 on Debian packages pgvector; before that it is built from Debian's source.
pgvector_from_source() { [ "$PG" -lt 17 ]; }

pg_major() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

target_dir() { say "$cache/target/pg$1"; } # a folder for each major: pgrx's bindings differ

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

# The sites that apt is set up with, whether it has lists of them or not.
apt_sites() { apt-get --print-uris update | sed -n "s|^'\([^']*\)/dists/[^']*InRelease'.*|\1|p" | sort -u; }

# apt_download PATH TO [HASH]: a file of the first of these sites that has it, by apt's own downloader, which knows
# proxies and credentials. Leaves the site in $site.
apt_download() {
	for site in $(apt_sites); do
		! /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "$site/$1" "${@:2}" || return 0
	done
	return 1
}

# Server programs refuse to run as root. They start in / because user postgres cannot enter /root.
as_server() {
	if is_root; then
		(cd / && runuser -u postgres -- "$@")
	else
		"$@"
	fi
}

# The first Python 3 that has pip: one built by hand or by pyenv may come without.
find_python() {
	local python
	for python in python3 /usr/bin/python3; do
		if "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pip") is None)' 2>/dev/null; then
			say "$python"
			return
		fi
	done
	return 1
}

# Debian's pgbouncer: the installed one, or the one that scripts/download unpacked.
find_pgbouncer() {
	PATH=$PATH:/usr/sbin command -v pgbouncer && return
	[ -x "$cache/pgbouncer/usr/sbin/pgbouncer" ] && say "$cache/pgbouncer/usr/sbin/pgbouncer"
}

# /var/tmp is everybody's: a folder that somebody else made there beforehand is not to be trusted with
# programs that root runs.
own_directory() {
	[ -e "$1" ] || [ -L "$1" ] || mkdir -p -- "$1"
	if [ -L "$1" ] || [ ! -d "$1" ] || [ ! -O "$1" ]; then
		die "$1 is not a folder of user $(id -un): remove it, or set VECTOR_EMBED_PREFIX"
	fi
}

# Two runs at once would install over each other's private server. Held until this process and its children
# end; scripts/cluster closes it for servers that outlive the run.
hold_lock() {
	own_directory "$prefix_base"
	exec 9>"$prefix_base/pg$PG.lock"
	flock -n 9 || {
		say "waiting for another run that uses $prefix"
		flock 9
	}
}

now() { say "${EPOCHREALTIME/[.,]/}"; } # microseconds

seconds_since() {
	local tenths=$((($(now) - $1) / 100000))
	say "$((tenths / 10)).$((tenths % 10))"
}
