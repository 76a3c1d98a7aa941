#!/bin/sh
# Starts or updates the service on Kubernetes, in kubectl's current namespace. Manifests and the secret are checked
# before anything is applied. Flags go to kubectl, such as --namespace tinytl.
set -eu
. "$(dirname -- "$0")/require.sh"

need_command kubectl "install Kubernetes' client"
python3 "$here/cluster_check" >/dev/null || exit 2
kubectl "$@" get crd rayclusters.ray.io rayjobs.ray.io >/dev/null ||
  fail "the cluster does not answer, or has no KubeRay (see kubectl's reason above)"
secret=$(kubectl "$@" get secret tinytl-secrets --ignore-not-found -o json) ||
  fail "secret tinytl-secrets cannot be read (see kubectl's reason above)"
[ -n "$secret" ] || fail "no secret tinytl-secrets in the namespace: docker/README.md has the command that makes it"
printf '%s' "$secret" | python3 "$here/cluster_check" --secret - >/dev/null || exit 2
kubectl "$@" apply --kustomize "$here/kubernetes"
