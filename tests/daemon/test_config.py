"""The operator's configuration: what may stand there, what holds without it, what it does to specs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.daemon.config import Config, ConfigError, config_from_text, differences, find_config, load_config
from trtd.daemon.machine import usable_cores, usable_memory_bytes
from trtd.daemon.messages import SpecFacts
from trtd.daemon.policy import capacity, governed, policy_of
from trtd.errors import EXIT_USAGE
from trtd.spec.section_tree import SectionTree
from trtd.spec.values import literal

SECTIONS = SectionTree(Config).sections
DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference" / "configuration.md"

FULL = """\
[watch]
period_s = 60
debounce_s = 0
settle_spec_s = 1.5
settle_s = 20.0
poll_s = 10
[limits]
builds = 3
threads = 2
memory_bytes = 16_000_000_000
build_memory_bytes = 1_000_000_000
build_deadline_s = 7200
stage_deadline_s = 1800
stage_memory_limit_bytes = 4_000_000_000
[retry]
backoff_s = 5
backoff_max_s = 600
wait_s = 15
[access]
roots = ["/srv/models", "/srv/data"]
python_hooks = true
unverified = true
[policy]
rebuild = "ask"
on_delete = "unpublish"
[notify]
on = ["failed"]
command = ["/usr/local/bin/tell", "--channel", "models"]
webhook = "https://hooks.example.org/services/T0/SECRET?key=SECRET"
timeout_s = 3
[metrics]
listen = "[::1]:9464"
textfile = "/var/lib/node_exporter/trtd.prom"
[log]
level = "debug"
format = "json"
[shutdown]
drain_s = 5
[retention]
gc_every_h = 0
"""


def faults(text: str) -> list[str]:
    try:
        config_from_text(text, file="trtd.toml")
    except ConfigError as error:
        return [str(found) for found in error.diagnostics]
    return []


def test_nothing_is_needed(tmp_path: Path) -> None:
    """A first `trtd run` would ask for a file that nobody has written yet."""
    config = load_config(None, tmp_path, {})
    assert config == Config()
    assert config.file is None
    assert (config.watch.period_s, config.retry.backoff_max_s, config.shutdown.drain_s) == (30.0, 3600.0, 20.0)
    assert (config.notify.command, config.notify.webhook) == (None, None)
    assert (config.metrics.listen, config.metrics.textfile) == (None, None)
    assert not config.access.python_hooks
    assert not config.access.unverified


def test_everything_can_be_said() -> None:
    """A documented key that is refused, or has no effect, is worse than none."""
    config = config_from_text(FULL, file="trtd.toml")
    unset = [key for key, found in config.resolved().items() if found["from"] != "file"]
    assert unset == []
    assert config.roots == (Path("/srv/models"), Path("/srv/data"))
    assert config.limits.stage_deadline_s == 1800.0


def test_all_faults_are_told_at_once() -> None:
    """An operator would mend one fault a restart."""
    text = """\
[watch]
perid_s = 30
settle_s = "10"
[limits]
builds = 0
samples = 1
[retry]
backoff_s = 100
backoff_max_s = 10
[notify]
on = ["publishd", "failed"]
command = "/bin/tell"
[log]
roots = ["/srv"]
[acces]
roots = ["srv"]
"""
    assert faults(text) == [
        'trtd.toml:2: watch.perid_s: unknown key (did you mean "period_s"?)',
        'trtd.toml:3: watch.settle_s: must be a number, got the text "10" (remove the quotes)',
        "trtd.toml:5: limits.builds: must be 1 or more, got 0",
        "trtd.toml:6: limits.samples: unknown key (known here: builds, threads, memory_bytes, build_memory_bytes, "
        "build_deadline_s, stage_deadline_s, stage_memory_limit_bytes)",
        "trtd.toml:9: retry.backoff_max_s: is 10, below backoff_s = 100 (backoff_s <= backoff_max_s must hold)",
        'trtd.toml:11: notify.on[0]: must be one of "published", "failed", "stale", got the text "publishd" '
        '(did you mean "published"?)',
        'trtd.toml:12: notify.command: must be a list, got the text "/bin/tell" (put it in brackets: ["/bin/tell"])',
        'trtd.toml:14: log.roots: unknown key ("roots" belongs in [access])',
        'trtd.toml:15: acces: unknown key (did you mean "access"?)',
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('access.roots = ["models"]', 'access.roots[0]: must be an absolute path, got the text "models"'),
        ('access.roots = ["/a", "/a"]', 'access.roots: must name each once, got ["/a", "/a"]'),
        ('access.roots = ["/a\\nb"]', "access.roots[0]: must not hold control characters"),
        ('metrics.listen = "9464"', "metrics.listen: must be the IP address of an interface and a port"),
        ('metrics.listen = "localhost:9464"', "metrics.listen: must be the IP address of an interface and a port"),
        ('metrics.listen = "127.0.0.1:0"', "metrics.listen: must be the IP address of an interface and a port"),
        ('metrics.listen = "127.0.0.1:65536"', "metrics.listen: must be the IP address of an interface and a port"),
        ('metrics.listen = "1.2.3:80"', "metrics.listen: must be the IP address of an interface and a port"),
        ('metrics.listen = "::1:80"', "metrics.listen: must be the IP address of an interface and a port"),
        ("metrics.textfile = 'a.prom'", "metrics.textfile: must be an absolute path"),
        ('notify.command = ["tell"]', "notify.command: must begin with the absolute path of a program"),
        ("notify.command = []", "notify.command: must hold at least 1 value, got none"),
        ("notify.on = []", "notify.on: must hold at least 1 value, got none"),
        ('notify.command = ["/bin/x", "a\\u0000"]', "notify.command: must not hold NUL characters"),
        ('notify.webhook = "file:///etc/passwd"', "notify.webhook: must be a web address"),
        ('notify.webhook = "https://"', "notify.webhook: must be a web address"),
        ('notify.webhook = "https://[::1"', "notify.webhook: must be a web address"),
        ('notify.webhook = "https://a:b@c/"', "notify.webhook: must not hold a user or password"),
        ("retention.gc_every_h = 0.001", "retention.gc_every_h: must be 0, which means never, or 0.1 or more"),
        ("watch.period_s = nan", "watch.period_s: must be a finite number"),
        ("limits.stage_deadline_s = 0", "limits.stage_deadline_s: must be more than 0, got 0"),
        ("watch = 3", "watch: must be a table of keys, got the number 3"),
    ],
)
def test_what_is_refused(line: str, message: str) -> None:
    """A value that cannot work would show hours later, or never."""
    (found,) = faults(line)
    assert found.startswith(f"trtd.toml:1: {message}")


@pytest.mark.parametrize("webhook", ["https://h/SECRET SECRET", "ftp://h/SECRET", "https://u:SECRET@h/", "SECRET"])
def test_a_secret_is_not_told(webhook: str) -> None:
    """The end of a webhook's address is often its password, and diagnostics go to the log."""
    (found,) = faults(f"notify.webhook = {json.dumps(webhook)}")
    assert "SECRET" not in found
    old, new = Config(), config_from_text(FULL, file="trtd.toml")
    told = f"{json.dumps(new.resolved())} {[str(change) for change in differences(old, new)]}"
    assert "SECRET" not in told
    assert new.resolved()["notify.webhook"]["value"] == "https://hooks.example.org/…"


def test_which_file_holds(tmp_path: Path) -> None:
    """The operator would edit one file and the daemon read another."""
    given_file, of_environment, usual = tmp_path / "a.toml", tmp_path / "b.toml", tmp_path / "trtd.toml"
    for file, period in ((given_file, 10), (of_environment, 20), (usual, 40)):
        file.write_text(f"watch.period_s = {period}\n")
    environ = {"TRTD_CONFIG": str(of_environment)}
    assert load_config(given_file, tmp_path, environ).watch.period_s == 10
    assert load_config(None, tmp_path, environ).watch.period_s == 20
    assert load_config(None, tmp_path, {"TRTD_CONFIG": ""}).watch.period_s == 40
    assert load_config(None, tmp_path, {}).file == usual
    assert find_config(None, None, {}) is None
    assert find_config(None, tmp_path / "elsewhere", {}) is None


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    """A typo in its name would silently run the daemon without limits."""
    for environ, named in (({}, tmp_path / "absent.toml"), ({"TRTD_CONFIG": str(tmp_path / "absent.toml")}, None)):
        with pytest.raises(ConfigError, match=r"absent\.toml: no such file"):
            load_config(named, tmp_path, environ)
    (tmp_path / "trtd.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"trtd\.toml: no such file"):
        load_config(None, tmp_path, {})


def test_whatever_stands_there_is_named_at_once(tmp_path: Path) -> None:
    """A pipe would block the daemon's start, and bad bytes would be called a bug."""
    os.mkfifo(tmp_path / "trtd.toml")
    with pytest.raises(ConfigError, match="must be a file, but is a named pipe") as caught:
        load_config(None, tmp_path, {})
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.to_json()["diagnostics"][0]["file"] == str(tmp_path / "trtd.toml")
    (tmp_path / "bad.toml").write_bytes(b"[watch]\nx = \xff\n")
    with pytest.raises(ConfigError, match=r"bad\.toml:2: is not UTF-8"):
        load_config(tmp_path / "bad.toml", None, {})
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="the limit for a configuration"):
        load_config(tmp_path / "large.toml", None, {})


@given(st.text())
def test_any_text_is_a_configuration_or_has_faults(text: str) -> None:
    """An unforeseen exception at a reload would end the daemon."""
    with suppress(ConfigError):
        config_from_text(text, file="trtd.toml")


values = st.one_of(
    st.none().map(lambda _: "{}"),
    st.booleans().map(literal),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.text(max_size=5).map(json.dumps),
    st.lists(st.text(max_size=5).map(json.dumps), max_size=3).map(lambda items: f"[{', '.join(items)}]"),
)
keys = st.sampled_from(
    [".".join([*map(str, path), key]) for path, section in SECTIONS.items() for key in section.model_fields]
)


@given(st.dictionaries(keys, values, max_size=6))
def test_any_value_of_any_key_is_taken_or_named(document: dict[str, str]) -> None:
    """A value of a kind that nobody thought of would be a bug in place of a diagnostic with its line."""
    text = "".join(f"{key} = {value}\n" for key, value in document.items())
    lines: list[int | None] = []
    try:
        config_from_text(text, file="trtd.toml")
    except ConfigError as error:
        lines = [found.line for found in error.diagnostics]
    assert None not in lines


def test_values_say_where_they_come_from() -> None:
    """Nobody could tell what a file changed from what holds anyway."""
    config = config_from_text('[limits]\nbuilds = 3\n[log]\nlevel = "info"\n', file="trtd.toml")
    resolved = config.resolved()
    assert resolved["limits.builds"] == {"value": 3, "from": "file"}
    assert resolved["log.level"] == {"value": "info", "from": "file"}  # though it is the default
    assert resolved["log.format"] == {"value": "auto", "from": "default"}
    assert set(resolved) == {f"{section}.{key}" for (section,), keys in _below_root() for key in keys.model_fields}
    json.dumps(resolved)


def _below_root() -> list[tuple[Any, Any]]:
    return [(path, section) for path, section in SECTIONS.items() if path]


def test_threads_and_builds_fit_the_cores() -> None:
    """Speed gates would be measured on cores that another build occupies."""
    limits = Config().limits
    assert limits.builds * limits.threads <= usable_cores()
    assert limits.builds >= 1
    alone = config_from_text("limits.builds = 1", file="trtd.toml").limits
    assert alone.threads == usable_cores()
    many = config_from_text("limits.builds = 999", file="trtd.toml").limits
    assert many.threads == 1


def test_a_reload_tells_what_changed() -> None:
    """After a reload nobody would know which values hold already, and which wait."""
    old = config_from_text("[watch]\nperiod_s = 30\n", file="trtd.toml")
    new = config_from_text(
        '[watch]\nperiod_s = 10\n[access]\nroots = ["/srv"]\n[metrics]\nlisten = "127.0.0.1:9464"\n', file="trtd.toml"
    )
    assert [str(change) for change in differences(old, new)] == [
        "watch.period_s: 30.0 -> 10.0",
        'access.roots: [] -> ["/srv"] (from the next build on)',
        'metrics.listen: none -> "127.0.0.1:9464" (after a restart)',
    ]
    assert differences(new, new) == ()


FACTS = SpecFacts(
    name="det", engines=(("det", "int8"),), target="onnxruntime-cpu", rebuild="auto", on_delete="unpublish"
)


def test_the_operator_overrides_specs() -> None:
    """A spec's author could delete engines, or rebuild after every upgrade, against the operator's will."""
    config = config_from_text('[policy]\nrebuild = "ask"\non_delete = "keep"\n', file="trtd.toml")
    assert (governed(config, FACTS).rebuild, governed(config, FACTS).on_delete) == ("ask", "keep")
    assert governed(Config(), FACTS) == FACTS


sizes = st.none() | st.integers(2**26, 2**40)


@given(asked=sizes, most=sizes, counted=st.integers(2**26, 2**40))
def test_no_spec_gets_more_memory_than_the_operator_allows(asked: int | None, most: int | None, counted: int) -> None:
    """One spec could take the machine's memory from all others."""
    text = f"limits.build_memory_bytes = {counted}\n"
    text += f"limits.stage_memory_limit_bytes = {most}\n" if most is not None else ""
    config = config_from_text(text, file="trtd.toml")
    policy = policy_of(config, replace(FACTS, memory_bytes=asked))
    limits = [limit for limit in (asked, most) if limit is not None]
    assert policy.memory_limit_bytes == (min(limits) if limits else None)
    assert policy.memory_bytes == (min(limits) if limits else counted)
    assert governed(config, replace(FACTS, memory_bytes=asked)).memory_bytes == policy.memory_limit_bytes


def test_capacity_is_that_of_the_configuration() -> None:
    """The queue would start more builds than the operator allows, or two on one GPU."""
    config = config_from_text("limits.builds = 3\nlimits.memory_bytes = 100_000_000\n", file="trtd.toml")
    found = capacity(config, ["cpu", "GPU-1"])
    assert (found.slots, found.memory_bytes) == ((("cpu", 3), ("GPU-1", 1)), 100_000_000)


def test_limits_of_a_container_count(tmp_path: Path) -> None:
    """In a container with 2 of 64 cores and 1 of 256 GB, the defaults would be those of the whole machine."""
    group = tmp_path / "sys/fs/cgroup/box/inner"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/box/inner\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:       8000000 kB\n")
    assert usable_memory_bytes(tmp_path) == 8_000_000 * 1024
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))
    (group / "memory.max").write_text("max\n")
    (group / "cpu.max").write_text("max 100000\n")
    assert usable_memory_bytes(tmp_path) == 8_000_000 * 1024
    (group.parent / "memory.max").write_text(f"{1 << 30}\n")
    (group.parent / "cpu.max").write_text("50000 100000\n")
    assert usable_memory_bytes(tmp_path) == 1 << 30
    assert usable_cores(tmp_path) == 1
    assert usable_memory_bytes(tmp_path / "nowhere") == 4 << 30


def test_the_daemons_rooms_import_nothing_heavy() -> None:
    """The daemon would not stay under 60 MB, and start slowly, for what is off by default."""
    modules = "config log metrics hooks notify policy machine".split()
    code = f"import sys, {', '.join(f'trtd.daemon.{name}' for name in modules)}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "PIL", "rich", "jinja2", "prometheus_client", "ssl", "http.client", "urllib.request", "onnx"}
    assert heavy & set(ran.stdout.split()) == set()


# ------------------------------------------------------------------------------------------------------------- docs


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (.*) \|$", text, re.MULTILINE))


def test_the_reference_is_complete() -> None:
    """A key that the reference lacks, or describes as it once was, misleads the operator."""
    told = rows(REFERENCE.read_text(encoding="utf-8"))
    right = {
        f"{path[0]}.{key}": (field.description or "").replace("|", "\\|")
        for path, section in _below_root()
        for key, field in section.model_fields.items()
    }
    assert told == right
    for path, section in _below_root():
        for key, field in section.model_fields.items():
            text = field.description or ""
            assert "Default: " in text, key
            if isinstance(field.default, (bool, int, float, str)):
                assert f"Default: {json.dumps(field.default)}." in text, (path, key)


@pytest.mark.parametrize("page", ["reference/configuration.md", "how-to/run-as-a-service.md"])
def test_examples_in_the_docs_are_valid(page: str) -> None:
    """What a reader copies would be refused."""
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        assert faults(block) == []
