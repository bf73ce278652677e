"""Giving up privileges that a long-lived process of ours does not need: prctl(2) and capset(2), by python-prctl."""

from __future__ import annotations


def keep_only(*names: str) -> None:
    """Keeps these capabilities ("dac_read_search") of those this process has, for itself and all it may ever execute.

    They are a thread's own: call it before there are others. Nothing of it can be taken back (PR_SET_NO_NEW_PRIVS).
    """
    import prctl

    prctl.set_no_new_privs(1)
    kept = [getattr(prctl, f"CAP_{name.upper()}") for name in names]
    prctl.cap_inheritable.limit()
    prctl.cap_effective.limit(*kept)
    prctl.cap_permitted.limit(*kept)
