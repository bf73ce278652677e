"""The kubelet's own calls: the Container Runtime Interface, runtime.v1, over gRPC.

The messages are made at run time from a table with the fields that the tests use; the field numbers are those of
kubernetes/cri-api, pkg/apis/runtime/v1/api.proto (a map is a repeated message with the fields key and value).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

if TYPE_CHECKING:
    from tests.clients.containerd import Containerd

CALL_SECONDS = 60.0
POD, CONTAINER, NODE = 0, 1, 2  # NamespaceMode
ALONE = {"pid": CONTAINER}  # how the kubelet asks for a pod, but for shareProcessNamespace
READY, NOT_READY = 0, 1  # PodSandboxState
CREATED, RUNNING, EXITED = 0, 1, 2  # ContainerState
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = 0, 1, 2  # SecurityProfile.ProfileType
HOST_TO_CONTAINER, BIDIRECTIONAL = 1, 2  # MountPropagation

MESSAGES = {
    "KeyValue": "string key=1, string value=2",
    "Int64Value": "int64 value=1",
    "UInt64Value": "uint64 value=1",
    "VersionRequest": "string version=1",
    "VersionResponse": "string runtime_name=2, string runtime_version=3, string runtime_api_version=4",
    # pods
    "PodSandboxMetadata": "string name=1, string uid=2, string namespace=3, uint32 attempt=4",
    "NamespaceOption": "int32 network=1, int32 pid=2, int32 ipc=3",
    "SecurityProfile": "int32 profile_type=1, string localhost_ref=2",
    "LinuxSandboxSecurityContext": "NamespaceOption namespace_options=1, bool privileged=6, SecurityProfile seccomp=9",
    "LinuxPodSandboxConfig": "string cgroup_parent=1, LinuxSandboxSecurityContext security_context=2, repeated KeyValue sysctls=3",
    "PodSandboxConfig": "PodSandboxMetadata metadata=1, string hostname=2, string log_directory=3, LinuxPodSandboxConfig linux=8",
    "RunPodSandboxRequest": "PodSandboxConfig config=1, string runtime_handler=2",
    "RunPodSandboxResponse": "string pod_sandbox_id=1",
    "StopPodSandboxRequest": "string pod_sandbox_id=1",
    "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "string pod_sandbox_id=1",
    "RemovePodSandboxResponse": "",
    "PodSandboxStatusRequest": "string pod_sandbox_id=1",
    "PodSandboxNetworkStatus": "string ip=1",
    "PodSandboxStatus": "string id=1, int32 state=3, PodSandboxNetworkStatus network=5, string runtime_handler=9",
    "PodSandboxStatusResponse": "PodSandboxStatus status=1",
    # containers
    "ImageSpec": "string image=1",
    "ContainerMetadata": "string name=1, uint32 attempt=2",
    "LinuxContainerResources": "int64 cpu_period=1, int64 cpu_quota=2, int64 cpu_shares=3, int64 memory_limit_in_bytes=4, "
    "int64 oom_score_adj=5, string cpuset_cpus=6, string cpuset_mems=7",
    "Capability": "repeated string add_capabilities=1, repeated string drop_capabilities=2",
    "LinuxContainerSecurityContext": "Capability capabilities=1, bool privileged=2, NamespaceOption namespace_options=3, "
    "Int64Value run_as_user=5, Int64Value run_as_group=12, bool readonly_rootfs=7, repeated int64 supplemental_groups=8, "
    "bool no_new_privs=11, repeated string masked_paths=13, repeated string readonly_paths=14, SecurityProfile seccomp=15",
    "LinuxContainerConfig": "LinuxContainerResources resources=1, LinuxContainerSecurityContext security_context=2",
    "Mount": "string container_path=1, string host_path=2, bool readonly=3, int32 propagation=5",
    "Device": "string container_path=1, string host_path=2, string permissions=3",
    "ContainerConfig": "ContainerMetadata metadata=1, ImageSpec image=2, repeated string command=3, repeated string args=4, "
    "string working_dir=5, repeated KeyValue envs=6, repeated Mount mounts=7, repeated Device devices=8, string log_path=11, "
    "LinuxContainerConfig linux=15",
    "CreateContainerRequest": "string pod_sandbox_id=1, ContainerConfig config=2, PodSandboxConfig sandbox_config=3",
    "CreateContainerResponse": "string container_id=1",
    "StartContainerRequest": "string container_id=1",
    "StartContainerResponse": "",
    "StopContainerRequest": "string container_id=1, int64 timeout=2",
    "StopContainerResponse": "",
    "RemoveContainerRequest": "string container_id=1",
    "RemoveContainerResponse": "",
    "ContainerStatusRequest": "string container_id=1",
    "ContainerStatus": "string id=1, int32 state=3, int32 exit_code=7, string reason=10, string message=11",
    "ContainerStatusResponse": "ContainerStatus status=1",
    "ExecSyncRequest": "string container_id=1, repeated string cmd=2, int64 timeout=3",
    "ExecSyncResponse": "bytes stdout=1, bytes stderr=2, int32 exit_code=3",
    "UpdateContainerResourcesRequest": "string container_id=1, LinuxContainerResources linux=2",
    "UpdateContainerResourcesResponse": "",
    "CpuUsage": "int64 timestamp=1, UInt64Value usage_core_nano_seconds=2",
    "MemoryUsage": "int64 timestamp=1, UInt64Value working_set_bytes=2",
    "ContainerStats": "CpuUsage cpu=2, MemoryUsage memory=3",
    "ContainerStatsRequest": "string container_id=1",
    "ContainerStatsResponse": "ContainerStats stats=1",
}


def _classes() -> dict[str, Any]:
    """The messages of the table as classes."""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="cri.proto", package="cri", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            left, number = field.split("=")
            *repeated, kind, field_name = left.split()
            label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            added = message.field.add(name=field_name, number=int(number), label=label)
            if kind in MESSAGES:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".cri.{kind}"
            else:
                added.type = getattr(field_type, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"cri.{name}")) for name in MESSAGES}


class Cri:
    """A kubelet that uses one runtime handler. What it makes is removed by clean().

    parent: where pods have their cgroups, with {number} for the pod's; a .slice for the systemd cgroup driver.
    """

    classes = _classes()

    def __init__(self, daemon: Containerd, runtime: str, image: str, parent: str = "") -> None:
        self.daemon = daemon
        self.runtime = runtime
        self.image = image
        self.parent = parent or f"/{daemon.cgroup}/pod{{number}}"
        self.logs = f"{daemon.directory}/logs-{runtime}"
        self._channel = grpc.insecure_channel(f"unix://{daemon.socket}")
        self._configs: dict[str, dict[str, Any]] = {}  # of the pods that are there, by id
        self._made = 0
        os.makedirs(self.logs, exist_ok=True)

    def call(self, procedure: str, **request: object) -> Any:
        """One call of RuntimeService; grpc.RpcError when it fails."""
        kind = self.classes[f"{procedure}Request"]
        path = f"/runtime.v1.RuntimeService/{procedure}"
        calling = self._channel.unary_unary(path, kind.SerializeToString, self.classes[f"{procedure}Response"].FromString)
        return calling(kind(**request), timeout=CALL_SECONDS)

    def pod(self, *, sysctls: dict[str, str] | None = None, **security: Any) -> str:
        """RunPodSandbox; its id. security: fields of LinuxSandboxSecurityContext."""
        self._made += 1
        options = security.setdefault("namespace_options", ALONE)
        linux = {
            "cgroup_parent": self.parent.format(number=self._made),
            "security_context": security,
            "sysctls": [{"key": key, "value": value} for key, value in (sysctls or {}).items()],
        }
        uid = f"{self.runtime}-{self._made}"
        config = {
            "metadata": {"name": "pod", "uid": uid, "namespace": "default"},
            # A pod in the node's network namespace has the node's name (api.proto).
            "hostname": "" if options.get("network") == NODE else "pod-host",
            "log_directory": self.logs,
            "linux": linux,
        }
        ident = self.call("RunPodSandbox", config=config, runtime_handler=self.runtime).pod_sandbox_id
        self._configs[ident] = config
        return ident

    def container(self, pod: str, *script: str, start: bool = True, **config: Any) -> str:
        """CreateContainer and StartContainer of a shell script, or of a command of more words; its id.

        config: fields of ContainerConfig; resources and security_context are fields of its `linux`.
        """
        self._made += 1
        name = config.pop("name", f"c{self._made}")
        context = {"namespace_options": ALONE, **config.pop("security_context", {})}
        linux = {"security_context": context, "resources": config.pop("resources", {})}
        wanted = {
            "metadata": {"name": name},
            "image": {"image": self.image},
            "command": ["/bin/sh", "-c", *script] if len(script) == 1 else [*script],
            "log_path": f"{name}.log",
            "linux": linux,
            **config,
        }
        request = {"pod_sandbox_id": pod, "config": wanted, "sandbox_config": self._configs[pod]}
        ident = self.call("CreateContainer", **request).container_id
        if start:
            self.call("StartContainer", container_id=ident)
        return ident

    def execute(self, container: str, *script: str, timeout: int = 20) -> tuple[int, str, str]:
        """ExecSync of a shell script, or of a command of more words: exit code, stdout, stderr. timeout in seconds."""
        command = ["/bin/sh", "-c", *script] if len(script) == 1 else [*script]
        done = self.call("ExecSync", container_id=container, cmd=command, timeout=timeout)
        return done.exit_code, done.stdout.decode(), done.stderr.decode()

    def status(self, container: str) -> Any:
        return self.call("ContainerStatus", container_id=container).status

    def log(self, name: str) -> list[list[str]]:
        """The log of a container by its name: stream, tag and text of each line (CRI's format, but for the time)."""
        with open(f"{self.logs}/{name}.log") as file:
            return [line.rstrip("\n").split(" ", 3)[1:] for line in file]

    def pid(self, container: str) -> int:
        """The first process of a container or pod on the host, by containerd's own list of tasks."""
        tasks = self.daemon.ctr("tasks", "list", namespace="k8s.io").stdout.decode().splitlines()
        return int(next(line.split()[1] for line in tasks if line.startswith(container)))

    def remove_pod(self, pod: str) -> None:
        """StopPodSandbox and RemovePodSandbox, which remove its containers too."""
        self.call("StopPodSandbox", pod_sandbox_id=pod)
        self.call("RemovePodSandbox", pod_sandbox_id=pod)
        del self._configs[pod]

    def clean(self) -> None:
        for pod in list(self._configs):
            self.remove_pod(pod)
