#!/usr/bin/env bash
# Runs a command as `nobody`, for tests of SLURM as an ordinary user: tests/slurm_cluster/as_user.sh COMMAND…
# Where nobody may not read the interpreter or this checkout (they lie in root's home, say), it is lent the right to.
set -euo pipefail
[ "$(id -u)" = 0 ] || exec "$@"   # an ordinary user already
id=$(id -u nobody) group=$(id -g nobody)
home=$(mktemp -d /tmp/wtu.XXXXXX)
chown "$id:$group" "$home"
trap 'rm -rf "$home"' EXIT
user=(setpriv "--reuid=$id" "--regid=$group" --clear-groups)
if ! "${user[@]}" test -x "$(readlink -f "$1")" || ! "${user[@]}" test -r "$PWD/Makefile"; then
  # sys_admin: nodes with host names of their own; no-new-privs: mount, a setuid program, would drop what is lent
  user+=(--inh-caps=+dac_read_search,+sys_admin --ambient-caps=+dac_read_search,+sys_admin --no-new-privs)
fi
"${user[@]}" env HOME="$home" USER=nobody LOGNAME=nobody TMPDIR="$home" PYTHONDONTWRITEBYTECODE=1 "$@"
