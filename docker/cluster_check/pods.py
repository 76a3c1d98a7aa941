"""The pods of the manifests: what their containers name is there, and is as in compose.yaml."""

import re
from pathlib import Path

from manifests import Files
from schemas import Manifest

QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|[MGTPE]|[KMGTPE]i)?")


def containers(pod: Manifest) -> list[Manifest]:
    """All containers of a pod template."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def variables(container: Manifest) -> dict[str, str]:
    """The environment that a manifest gives a container; no value if it comes from elsewhere."""
    return {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}


def secret_files(container: Manifest, pod: Manifest) -> dict[str, str]:
    """The paths in a container at which it finds keys of a Secret."""
    volumes = {volume["name"]: volume.get("secret", {}) for volume in pod["spec"].get("volumes", [])}
    return {
        f"{mount['mountPath']}/{item['path']}": item["key"]
        for mount in container.get("volumeMounts", [])
        for item in volumes.get(mount["name"], {}).get("items", [])
    }


def check_pods(files: Files) -> None:
    """Checks each pod, and that no service of compose.yaml is left out."""
    services: Manifest = files.compose["services"]
    seen = set()
    for place, pod, obj in files.pods():
        if pod["spec"].get("securityContext", {}).get("runAsNonRoot") is not True:
            files.wrong(place, "securityContext.runAsNonRoot must be true")
        check_volumes(files, place, pod, obj)
        for container in containers(pod):
            where = f"{place}, container {container['name']}"
            check_container(files, where, container)
            if container["name"] in services:
                seen.add(container["name"])
                check_service(files, where, container, pod, services[container["name"]])
    for name in sorted(services.keys() - seen):
        files.wrong("kubernetes", f"no container {name}, a service of compose.yaml")


def check_volumes(files: Files, place: str, pod: Manifest, obj: Manifest) -> None:
    """Volumes have a source that exists, and mounts a volume. Nodes of Ray may share a claim."""
    claims, volumes = files.named("PersistentVolumeClaim"), pod["spec"].get("volumes", [])
    for volume in volumes:
        if len(volume) != 2:
            files.wrong(place, f"volume {volume['name']} needs one source")
        if "secret" in volume and not volume["secret"].get("items"):
            files.wrong(place, f"volume {volume['name']} names no keys (items) of its secret")
        if "configMap" in volume and volume["configMap"].get("name") not in files.named("ConfigMap"):
            files.wrong(place, f"no ConfigMap {volume['configMap'].get('name')} in the manifests")
        if claim := volume.get("persistentVolumeClaim", {}).get("claimName"):
            modes = claims.get(claim, {}).get("spec", {}).get("accessModes", [])
            if claim not in claims:
                files.wrong(place, f"no PersistentVolumeClaim {claim} in the manifests")
            elif not modes or (obj["kind"] == "RayCluster" and modes != ["ReadWriteMany"]):
                wanted = "ReadWriteMany" if obj["kind"] == "RayCluster" else "ReadWriteOnce"
                files.wrong(place, f"claim {claim}: accessModes must be [{wanted}]")
    made = obj["spec"].get("volumeClaimTemplates", [])
    names = {volume["name"] for volume in volumes} | {claim.get("metadata", {}).get("name") for claim in made}
    for container in containers(pod):
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in names:
                files.wrong(
                    f"{place}, container {container['name']}", f"no volume {mount['name']} in its pod"
                )


def check_container(files: Files, where: str, container: Manifest) -> None:
    """Image, size, rights, and the hosts in its variables."""
    services, env = files.compose["services"], variables(container)
    project = services["mlflow"]["image"].partition(":")[0]
    images = sorted([f"{project}:cpu", f"{project}:cuda", services["postgres"]["image"]])
    hosts = {*files.named("Service"), *(f"{name}-head-svc" for name in files.named("RayCluster"))}
    resources = container.get("resources", {})
    for kind in ("requests", "limits"):
        for name, amount in resources.get(kind, {}).items():
            if not QUANTITY.fullmatch(str(amount)):
                files.wrong(where, f"resources.{kind}.{name}: {amount} is no quantity (500m, 4Gi)")
    if "memory" not in resources.get("limits", {}):
        files.wrong(where, "no resources.limits.memory")
    if container.get("securityContext", {}).get("allowPrivilegeEscalation") is not False:
        files.wrong(where, "securityContext.allowPrivilegeEscalation must be false")
    image = container.get("image")
    if image not in images:
        files.wrong(where, f"image {image}: must be {' or '.join(images)}")
    elif ("nvidia.com/gpu" in resources.get("limits", {})) != (image == f"{project}:cuda"):
        files.wrong(where, f"image {image}: {project}:cuda and a limit of nvidia.com/gpu belong together")
    for entry in container.get("env", []):
        if entry.keys() == {"name"}:
            files.wrong(where, f"variable {entry['name']} has no value")
    for name in sorted({"PGHOST", "RAY_HEAD"} & env.keys()):
        if env[name].partition(":")[0] not in hosts:
            files.wrong(where, f"{name}={env[name]}: no Service of that name in the manifests")


def check_service(files: Files, where: str, container: Manifest, pod: Manifest, service: Manifest) -> None:
    """Compares a container with its service in compose.yaml: variables, volumes, health, secrets, program."""
    env, paths = variables(container), secret_files(container, pod)
    for name in sorted(service.get("environment", {}).keys() - env.keys()):
        files.wrong(where, f"no variable {name}, which compose.yaml sets")
    mounted = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
    for volume, target, *_ in (text.split(":") for text in service.get("volumes", [])):
        if volume in files.compose["volumes"] and target not in mounted:
            files.wrong(where, f"nothing is mounted at {target}, where compose.yaml has volume {volume}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe") if "healthcheck" in service else ():
        if not {"exec", "httpGet", "tcpSocket"} & container.get(probe, {}).keys():
            files.wrong(where, f"no {probe} that asks anything, though compose.yaml has a healthcheck")
    wanted, given = set(service.get("secrets", [])), {Path(path).name for path in paths}
    for name in sorted(wanted - given):
        files.wrong(where, f"no secret {name}, which compose.yaml gives it")
    for name in sorted(given - wanted):
        files.wrong(where, f"has secret {name}, which compose.yaml does not give it")
    if "SECRETS_DIR" in env and env["SECRETS_DIR"] not in {str(Path(path).parent) for path in paths}:
        files.wrong(where, f"SECRETS_DIR={env['SECRETS_DIR']}: no secret is mounted there")
    for name, value in env.items():
        if name.endswith("_FILE") and value not in paths:
            files.wrong(where, f"{name}={value}: no secret is mounted there")
    program = (service.get("entrypoint") or service.get("command") or [""])[0]
    started = (container.get("command") or [""])[0]
    if started.startswith("/") and str(Path(started).parent) not in mounted:
        files.wrong(where, f"nothing is mounted at the folder of {started}")
    if Path(program).name != Path(started).name:
        files.wrong(where, f"does not start {program}, as compose.yaml does")
