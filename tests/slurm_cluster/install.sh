#!/usr/bin/env bash
# Debian's SLURM for tests/slurm_cluster: needs root and apt; without them it says so; the tests then skip. Starts no service.
# tests/slurm_cluster/install.sh [--without-database]: the accounting database is for one module of tests.
set -euo pipefail
packages=(slurmctld slurmd slurm-client munge)
[ "${1:-}" = --without-database ] || packages+=(slurmdbd slurm-wlm-mysql-plugin mariadb-server)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || { echo "SLURM is installed: $(dpkg-query -W -f '${Version}' slurmctld)"; exit 0; }
command -v apt-get >/dev/null || { echo "no apt-get here: the SLURM tests are skipped" >&2; exit 0; }
[ "$(id -u)" = 0 ] || { echo "not root: install ${missing[*]} first; the SLURM tests are skipped" >&2; exit 0; }
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.windtunnel   # packages would start daemons that the tests don't want
chmod +x /usr/sbin/policy-rc.d.windtunnel
if [ ! -e /usr/sbin/policy-rc.d ]; then
  mv /usr/sbin/policy-rc.d.windtunnel /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
else
  rm -f /usr/sbin/policy-rc.d.windtunnel
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
  || echo "apt-get could not install ${missing[*]}: the SLURM tests are skipped" >&2
