"""`--change` gives what `docker import --change` gives (each expectation was compared with a real dockerd 20.10)."""

from __future__ import annotations

import pytest

from minicontainer.errors import UsageError
from minicontainer.image.changes import apply_changes

SHELL = ["/bin/sh", "-c"]
GOOD = [
    (['CMD ["a","b"]'], {"Cmd": ["a", "b"]}),
    (["CMD echo hi $X"], {"Cmd": [*SHELL, "echo hi $X"]}),
    (["CMD ['a']"], {"Cmd": [*SHELL, "['a']"]}),
    (["CMD []"], {"Cmd": []}),
    (['cmd ["y"]', 'ENTRYPOINT ["/x"]'], {"Cmd": ["y"], "Entrypoint": ["/x"]}),
    (["ENV A=1 B=\"two words\" C='$A' D=$A"], {"Env": ["A=1", "B=two words", "C=$A", "D="]}),
    (["ENV A=1", "ENV B=$A-${A}x${NO:-def}${A:+alt}"], {"Env": ["A=1", "B=1-1xdefalt"]}),
    (["ENV A the  rest of it"], {"Env": ["A=the  rest of it"]}),
    (["ENV A=a\\ b", 'ENV B="x\\"y" C="\\n"'], {"Env": ["A=a b", 'B=x"y', "C=\\n"]}),
    (["ENV A=1", "ENV A=2"], {"Env": ["A=2"]}),
    (["ENV A=$"], {"Env": ["A=$"]}),
    (["EXPOSE 80 443/tcp 53/UDP 8000-8001"],
     {"ExposedPorts": {"80/tcp": {}, "443/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}}),
    (['LABEL a=b "c d"="e f"'], {"Labels": {"a": "b", "c d": "e f"}}),
    (["USER 1000:1000"], {"User": "1000:1000"}),
    (["ENV U=me", "USER $U"], {"Env": ["U=me"], "User": "me"}),
    (["VOLUME /a /b"], {"Volumes": {"/a": {}, "/b": {}}}),
    (['VOLUME ["/a","/b c"]'], {"Volumes": {"/a": {}, "/b c": {}}}),
    (["WORKDIR /a", "WORKDIR b/../c"], {"WorkingDir": "/a/c"}),
    (["WORKDIR rel"], {"WorkingDir": "/rel"}),
    (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
    (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
    (["HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=3 CMD curl x"],
     {"Healthcheck": {"Interval": 90 * 10**9, "Timeout": 1_500_000_000, "Retries": 3, "Test": ["CMD-SHELL", "curl x"]}}),
    (['HEALTHCHECK --start-period=500ms CMD ["a"]'], {"Healthcheck": {"StartPeriod": 5 * 10**8, "Test": ["CMD", "a"]}}),
    (["ONBUILD RUN x"], {"OnBuild": ["RUN x"]}),
]
BAD = [("RUN x", "none of CMD"), ("FROM x", "none of"), ("", "none of"), ("CMD", "needs a value"), ("ENV A", "not NAME=VALUE"),
       ("ENV =x", "not NAME=VALUE"), ("EXPOSE 99999", "is not PORT"), ("EXPOSE abc", "is not PORT"), ('ENV A="x', "not closed"),
       ("ENV A=${A", "is not"), ("ENV A=${", "without a name"), ("STOPSIGNAL FOO", "is no signal"),
       ('CMD ["a", 1]', "strings only"), ("HEALTHCHECK x", "write `HEALTHCHECK"), ("HEALTHCHECK CMD", "write `HEALTHCHECK"),
       ("HEALTHCHECK CMD []", "is empty"), ("HEALTHCHECK --bad=1 CMD x", "is none of"),
       ("HEALTHCHECK --interval=5 CMD x", "no duration"), ("HEALTHCHECK --interval=1us CMD x", "less than 1ms"),
       ("HEALTHCHECK --retries=x CMD x", "no number"), ("ONBUILD FROM x", "ONBUILD"), ('VOLUME [""]', "needs a path"),
       ('USER ""', "empty")]


@pytest.mark.parametrize("lines, config", GOOD, ids=lambda value: str(value)[:40])
def test_config(lines, config):
    assert apply_changes(lines) == config


@pytest.mark.parametrize("line, message", BAD)
def test_refused(line, message):
    """The error names the line."""
    with pytest.raises(UsageError) as refusal:
        apply_changes([line])
    assert message in refusal.value.message
    assert f"--change '{line}'" in refusal.value.message
