#!/bin/sh
# Holds what is under deploy/ against what it is for, without a cluster, a running systemd or a container engine:
#
#   deploy/check.sh [PROGRAM]
#
# the systemd units by `systemd-analyze verify`, with PROGRAM (else any) in the place of the installed one; the Kubernetes
# manifests against the schemas of Kubernetes that `kubernetes-validate` brings along (pip install kubernetes-validate), where
# an unknown key is a fault; the container file by `hadolint`. What is not installed is said, and then nothing passes that
# was not looked at: the exit code is 2.
set -eu
program=$(realpath "$(command -v "${1:-/bin/true}")") || { echo "$1 is no program" >&2; exit 2; }
cd "$(dirname "$0")"
missing=0 failed=0
has() { command -v "$1" >/dev/null || { echo "NOT CHECKED: $2 ($1 is not installed)" >&2; missing=1; return 1; }; }
held() { if "$@"; then echo "ok: $what"; else echo "FAILED: $what" >&2; failed=1; fi; }

what="systemd units"
if has systemd-analyze "$what"; then
    units=$(mktemp -d)
    trap 'rm -rf "$units"' EXIT
    for unit in dethrone.service dethrone.socket; do
        sed "s|/usr/local/bin/dethrone|$program|" "$unit" >"$units/$unit"
    done
    verify() {
        # Some faults are only warned of: an unknown key is one.
        said=$(systemd-analyze verify --man=no "$units/dethrone.service" "$units/dethrone.socket" 2>&1) || { echo "$said" >&2; return 1; }
        [ -z "$said" ] || { echo "$said" >&2; return 1; }
    }
    held verify
fi
what="Kubernetes manifests"
has kubernetes-validate "$what" && held kubernetes-validate --strict --quiet kubernetes/*.yaml
what="container file"
has hadolint "$what" && held hadolint container/Containerfile
[ $failed = 0 ] || exit 1
[ $missing = 0 ] || exit 2
