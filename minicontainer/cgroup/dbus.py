"""Calls to systemd over the system's D-Bus or a user's, by jeepney; only imported when the systemd cgroup driver is asked for.

Source: org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
import socket
from collections import deque

from jeepney import DBusAddress, DBusErrorResponse, HeaderFields, MatchRule, MessageType, message_bus, new_method_call
from jeepney.bus import find_session_bus, find_system_bus
from jeepney.io.blocking import DBusConnection

from minicontainer.errors import MinicontainerError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jeepney import Message

    Property = tuple[str, tuple[str, object]]  # name, (D-Bus signature, value)

_SECONDS = 30.0  # runc waits as long
_INTERFACE = "org.freedesktop.systemd1.Manager"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface=_INTERFACE)
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"


class SystemdError(MinicontainerError):
    """systemd refused a call. name: of the D-Bus error."""

    def __init__(self, message: str, hint: str, name: str) -> None:
        super().__init__(message, hint)
        self.name = name


class Systemd:
    """A connection to systemd, to be closed. of_user: to that of the user who calls, not to the host's.

    Unsupported where systemd isn't running, as sd_booted(3) finds out, or no bus leads to it.
    """

    def __init__(self, *, of_user: bool = False) -> None:
        if not os.path.isdir("/run/systemd/system"):
            raise Unsupported(
                "--systemd-cgroup: systemd is not running here, so there is nobody to make a unit", "use the cgroupfs driver"
            )
        address = _user_bus() if of_user else find_system_bus()
        try:
            self._bus = DBusConnection(_authenticated(address))
        except (OSError, ValueError) as e:
            whose, more = ("user", " --user") if of_user else ("system", "")
            raise Unsupported(
                f"--systemd-cgroup: can't connect to the {whose}'s D-Bus: {e}", f"see `systemctl{more} status dbus.socket`"
            ) from None

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_: object) -> None:
        self._bus.close()

    def start(self, unit: str, properties: list[Property]) -> None:
        """A transient unit, and waits until it is there. SystemdError if it is not."""
        self._job("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "replace", properties, []), unit)

    def stop(self, unit: str) -> None:
        """Ends a unit and waits for it; nothing if there is none."""
        try:
            self._job("StopUnit", "ss", (unit, "replace"), unit)
        except SystemdError as e:
            if e.name != NO_SUCH_UNIT:
                raise
        self.reset_failed(unit)

    def reset_failed(self, unit: str) -> None:
        """Lets systemd forget a unit that has failed."""
        try:
            self._call("ResetFailedUnit", "s", (unit,), unit)
        except SystemdError as e:
            if e.name != NO_SUCH_UNIT:
                raise

    def set(self, unit: str, properties: list[Property]) -> None:
        """Properties of a unit, until it ends."""
        self._call("SetUnitProperties", "sba(sv)", (unit, True, properties), unit)

    def version(self) -> int:
        """systemd's version: 252 of "252.39-1~deb12u2"."""
        digits = ""
        for letter in self._property("Version").lstrip("v"):
            if not letter.isdigit():
                break
            digits += letter
        return int(digits or 0)

    def control_group(self) -> str:
        """The group that its units are in: "" for the host's systemd, "/user.slice/user-7.slice/user@7.service" for a user's."""
        return self._property("ControlGroup")

    def _property(self, name: str) -> str:
        address = _MANAGER.with_interface("org.freedesktop.DBus.Properties")
        try:
            reply = self._bus.send_and_get_reply(new_method_call(address, "Get", "ss", (_INTERFACE, name)), timeout=_SECONDS)
        except TimeoutError:
            raise MinicontainerError(f"systemd did not tell its {name} within {_SECONDS:.0f} s") from None
        return str(_body(reply, "Get", name)[0][1])

    def _call(self, member: str, signature: str, body: tuple, unit: str) -> tuple:
        try:
            reply = self._bus.send_and_get_reply(new_method_call(_MANAGER, member, signature, body), timeout=_SECONDS)
        except TimeoutError:
            raise MinicontainerError(f"systemd did not answer {member} of {unit} within {_SECONDS:.0f} s") from None
        return _body(reply, member, unit)

    def _job(self, member: str, signature: str, body: tuple, unit: str) -> None:
        """A call that queues a job, and its end: the signal JobRemoved (id, job, unit, result)."""
        rule = MatchRule(type="signal", interface=_INTERFACE, member="JobRemoved", path=_MANAGER.object_path)
        self._bus.send_and_get_reply(message_bus.AddMatch(rule), timeout=_SECONDS)
        ended: deque[Message] = deque()
        with self._bus.filter(rule, queue=ended):
            self._call("Subscribe", "", (), unit)
            (job,) = self._call(member, signature, body, unit)
            while True:
                try:
                    signal = self._bus.recv_until_filtered(ended, timeout=_SECONDS)
                except TimeoutError:
                    raise MinicontainerError(
                        f"Timeout waiting for systemd: {member} of {unit} took more than {_SECONDS:.0f} s",
                        f"systemctl status {unit}",
                    ) from None
                if signal.body[1] == job:
                    break
        if signal.body[3] != "done" and member != "StopUnit":
            self.reset_failed(unit)
            raise SystemdError(
                f"error creating systemd unit `{unit}`: got `{signal.body[3]}`", "see journalctl", f"job-{signal.body[3]}"
            )


def user_manager() -> str:
    """The group of the user's own systemd (Systemd.control_group)."""
    with Systemd(of_user=True) as systemd:
        return systemd.control_group()


def _user_bus() -> str:
    """The socket of the user's bus, found as sd_bus_open_user(3) does."""
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        try:
            return find_session_bus()
        except (RuntimeError, ValueError):  # jeepney: no transport that it knows; no address
            raise Unsupported(
                f"--systemd-cgroup: DBUS_SESSION_BUS_ADDRESS={address} is not the address of a socket",
                "like unix:path=/run/user/1000/bus",
            ) from None
    path = f"{os.environ.get('XDG_RUNTIME_DIR', '')}/bus"
    if path == "/bus" or not os.path.exists(path):
        raise Unsupported(
            "--systemd-cgroup without root needs the user's D-Bus: DBUS_SESSION_BUS_ADDRESS is not set, "
            "and there is no $XDG_RUNTIME_DIR/bus",
            "log in anew with dbus-user-session installed, or use the cgroupfs driver",
        )
    return path


def _authenticated(address: str) -> socket.socket:
    """A connection to a bus as whoever the kernel says we are.

    jeepney would name our uid, which in a user namespace (where podman without root starts us) is not the one that the bus sees.
    An identity that is left out is that of the socket's peer, as libsystemd has it (D-Bus specification, "EXTERNAL").
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(_SECONDS)
        sock.connect(address)
        sock.sendall(b"\0AUTH EXTERNAL\r\n")
        answer = sock.recv(1024)
        if answer.startswith(b"DATA"):
            sock.sendall(b"DATA\r\n")
            answer = sock.recv(1024)
        if not answer.startswith(b"OK "):
            raise ValueError(f"the bus does not let us in: {answer.decode(errors='replace').strip()}")
        sock.sendall(b"BEGIN\r\n")
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def _body(reply: Message, member: str, unit: str) -> tuple:
    if reply.header.message_type != MessageType.error:
        return reply.body
    error = DBusErrorResponse(reply)
    name = str(reply.header.fields.get(HeaderFields.error_name, error.name))
    text = str(reply.body[0]) if reply.body else name
    raise SystemdError(f"systemd refused {member} of {unit}: {text}", "", name)
