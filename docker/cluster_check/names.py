"""Names in the manifests: secrets and their keys, Services, and what KubeRay's objects name of each other."""

import re
from collections.abc import Iterator

from manifests import Files
from pods import containers, variables
from schemas import KUBERAY, Manifest

SECRET = "tinytl-secrets"
"""The one object that the manifests do not bring: its maker holds the passwords."""
TOKEN_KEY = "auth_token"
"""KubeRay's name for Ray's token."""


def secrets_read(files: Files) -> Iterator[tuple[str, str, str]]:
    """Each place at which a manifest reads a Secret, with the Secret's name and the key."""
    for place, pod, obj in files.pods():
        for volume in pod["spec"].get("volumes", []):
            for item in volume.get("secret", {}).get("items") or []:
                yield place, volume["secret"].get("secretName", ""), item["key"]
        for container in containers(pod):
            for entry in container.get("env", []):
                if source := entry.get("valueFrom", {}).get("secretKeyRef"):
                    yield f"{place}, container {container['name']}", source.get("name", ""), source["key"]
        if obj["kind"] == "RayCluster":
            yield place, obj["spec"]["authOptions"]["secretName"], TOKEN_KEY


def check_secrets(files: Files, given: Manifest | None) -> None:
    """The secret that is read is the one that the user makes, and has each key: `given`, if it is at hand."""
    if given is None:
        name, keys = SECRET, {*files.compose["secrets"], TOKEN_KEY}
    else:
        name = str((given.get("metadata") or {}).get("name"))
        keys = {key for key, value in (given.get("data") or {}).items() if value}
    for place, secret, key in secrets_read(files):
        if secret != name:
            files.wrong(place, f"reads secret {secret}, but the secret is {name}")
        elif key not in keys:
            files.wrong(place, f"reads key {key}, which secret {name} lacks")


def check_services(files: Files) -> None:
    """Services find pods and their ports; Deployments and StatefulSets find their own pods."""
    pods = [
        (place, pod, obj, pod.get("metadata", {}).get("labels", {}).items())
        for place, pod, obj in files.pods()
    ]
    for place, service in files.of_kind("Service"):
        selector = service["spec"].get("selector", {}).items()
        running = [
            container for _, pod, _, labels in pods if selector <= labels for container in containers(pod)
        ]
        ports = {port.get("name") for container in running for port in container.get("ports", [])}
        if not running:
            files.wrong(place, "its selector finds no pod")
        for port in service["spec"].get("ports", []):
            if running and isinstance(port.get("targetPort"), str) and port["targetPort"] not in ports:
                files.wrong(place, f"its pod has no port {port['targetPort']}")
    for place, _, obj, labels in pods:
        wanted = obj["spec"].get("selector", {}).get("matchLabels", {}).items()
        if obj["kind"] not in KUBERAY and not (wanted and wanted <= labels):
            files.wrong(place, "its selector differs from the labels of its pods")
    for place, obj in files.of_kind("StatefulSet"):
        if obj["spec"]["serviceName"] not in files.named("Service"):
            files.wrong(place, f"no Service {obj['spec']['serviceName']} in the manifests")


def check_kuberay(files: Files) -> None:
    """The cluster has this project's Ray, runs our scripts, and is the one that studies name."""
    for place, cluster in files.of_kind("RayCluster"):
        spec, annotations = cluster["spec"], cluster["metadata"].get("annotations", {})
        if spec["rayVersion"] != files.ray_version:
            files.wrong(place, f"rayVersion {spec['rayVersion']}: requirements.lock has {files.ray_version}")
        if annotations.get("ray.io/overwrite-container-cmd") != "true":
            files.wrong(place, 'our scripts need the annotation ray.io/overwrite-container-cmd: "true"')
        for group in spec["workerGroupSpecs"]:
            name = group["groupName"]
            cpus = variables(group["template"]["spec"]["containers"][0]).get("RAY_NUM_CPUS")
            if group["rayStartParams"].get("num-cpus") != cpus:
                files.wrong(place, f"group {name}: num-cpus must be RAY_NUM_CPUS, {cpus}")
            if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
                files.wrong(place, f"group {name}: replicas outside minReplicas and maxReplicas")
    for place, job in files.of_kind("RayJob"):
        name = job["spec"]["clusterSelector"]["ray.io/cluster"]
        if name not in files.named("RayCluster"):
            files.wrong(place, f"no RayCluster {name} in the manifests")
        for host in re.findall(r"(?:@|http://)([\w.-]+)", job["spec"]["entrypoint"]):
            if host not in files.named("Service"):
                files.wrong(place, f"entrypoint: no Service {host} in the manifests")
