"""Where things lie and what is set for the whole host: flags over environment over the TOML file over defaults."""

from __future__ import annotations

import os

from minicontainer.errors import UsageError

DEFAULT_ROOT = "/var/lib/minicontainer"
DEFAULT_STATE = "/run/minicontainer"
DEFAULT_FILE = "/etc/minicontainer.toml"

# section.key: (default, what it is)
SETTINGS: dict[str, tuple[object, str]] = {
    "network.bridge": ("minicontainer0", "name of the default bridge"),
    "network.ipv4": ("", "its IPv4 subnet (default: minicontainer's own)"),
    "network.ipv6": ("", "its IPv6 subnet"),
    "network.table": ("minicontainer", "name of the nftables table"),
    "network.publish": ("127.0.0.1", "where a port published without an address listens"),
    "cgroup.parent": ("minicontainer", "the cgroup below which containers get theirs"),
    "log.max_size_bytes": (10 << 20, "a log file is rotated at this size"),
    "log.max_files": (3, "how many log files are kept"),
    "security.no_new_privileges": (False, "set no_new_privs in every container"),
}


class Config:
    """root: data (images, containers); state: live containers; settings: by "section.key", see SETTINGS."""

    __slots__ = ("file", "root", "settings", "state")

    def __init__(self, root: str = "", state: str = "", file: str = "", environ: dict[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        self.file = file or env.get("MINICONTAINER_CONFIG", "")
        self.settings: dict[str, object] = {name: default for name, (default, _) in SETTINGS.items()}
        given = self._read(self.file or DEFAULT_FILE, required=bool(self.file))
        self.root = os.path.abspath(root or env.get("MINICONTAINER_ROOT", "") or given.pop("root", "") or DEFAULT_ROOT)
        self.state = os.path.abspath(state or env.get("MINICONTAINER_STATE", "") or given.pop("state", "") or DEFAULT_STATE)

    def _read(self, path: str, *, required: bool) -> dict[str, str]:
        """Settings of a TOML file; root and state are returned."""
        try:
            with open(path, "rb") as f:
                import tomllib

                document = tomllib.load(f)
        except FileNotFoundError:
            if required:
                raise UsageError(f'no configuration file "{path}"', "leave out --config, or create the file") from None
            return {}
        except ValueError as e:
            raise UsageError(f"configuration file {path}: {e}", "see minicontainer.toml in the README") from e
        top = {}
        for section, table in document.items():
            if section in ("root", "state"):
                top[section] = str(table)
                continue
            for key, value in table.items() if isinstance(table, dict) else ():
                name = f"{section}.{key}"
                if name not in SETTINGS or type(value) is not type(SETTINGS[name][0]):
                    raise UsageError(
                        f"configuration file {path}: [{section}] {key} = {value!r} is not a setting",
                        f"settings are {', '.join(SETTINGS)}",
                    )
                self.settings[name] = value
            if not isinstance(table, dict):
                raise UsageError(
                    f"configuration file {path}: {section} is not a setting", f"settings are root, state, {', '.join(SETTINGS)}"
                )
        return top

    def flags(self) -> list[str]:
        """The global flags that lead another command to the same places."""
        return ["--root", self.root, "--state", self.state, *(["--config", self.file] if self.file else [])]
