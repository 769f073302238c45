"""The shipped units, judged by systemd itself: understood, hardened, and still fit for building engines."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.packaging import under_filter
from tests.workshop import Workshop
from trtd.daemon.config import Config, config_from_text
from trtd.daemon.unit import (
    DEFAULT_REGISTRY,
    Installation,
    closed_folders,
    network_of,
    quoted,
    shipped,
    system_unit,
    tmpfiles,
    user_unit,
)
from trtd.daemon.unit_files import verify
from trtd.errors import EnvironmentMissing, UsageError
from trtd.store.device_lock import SHARED_LOCKS

PACKAGING = Path(__file__).parents[2] / "packaging"
MOST_EXPOSURE = 1.0

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
needs_tmpfiles = pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd is not installed here")
needs_filter = pytest.mark.skipif(
    platform.machine() != "x86_64" or not under_filter.HEADER.exists(), reason="needs x86-64 and the kernel's headers"
)

LOCKS = "-/run/lock"
REAL = ("/bin/true",)  # systemd checks that the program is there
PLAIN = Installation(REAL, DEFAULT_REGISTRY)
VARIANTS = {
    "plain": PLAIN,
    "elsewhere": Installation(REAL, Path("/srv/engines")),
    "awkward": Installation((*REAL, "-m", "a$b %h"), Path("/srv/my $HOME %h; engines"), Path("/etc/my #1.toml")),
    "loopback": Installation(REAL, DEFAULT_REGISTRY, network="loopback"),
    "network": Installation(REAL, DEFAULT_REGISTRY, network="any"),
    "textfile": Installation(REAL, DEFAULT_REGISTRY, writable=(Path("/var/lib/node exporter"),)),
    "home": Installation(REAL, Path("/home/ann/engines"), reads_homes=True, drain_s=600),
}


def values(unit: str, key: str) -> list[str]:
    return under_filter.settings(unit, key)


@needs_systemd
@pytest.mark.parametrize("variant", VARIANTS)
def test_systemd_takes_the_unit(variant: str) -> None:
    """A key that systemd does not know is ignored in silence: the sandbox would not be there."""
    assert verify(system_unit(VARIANTS[variant]))
    assert verify(user_unit(VARIANTS[variant]), user=True)


@needs_systemd
@pytest.mark.parametrize(
    "line", ["PrivateTpm=yes", "RestrictNamespaces=maybe", "ExecStart=/no/such/program", "DeviceAllow=nvidia"]
)
def test_a_bad_unit_is_refused(line: str) -> None:
    """Were this check to pass whatever it is given, so would a unit with typos."""
    spoilt = re.sub(
        rf"^({line.partition('=')[0]}=.*\n)?\[Install\]", f"{line}\n\n[Install]", system_unit(PLAIN), flags=re.M
    )
    with pytest.raises(EnvironmentMissing, match=r"systemd does not take the unit"):
        verify(spoilt)
    assert verify(spoilt, force=True) is False


@needs_systemd
@pytest.mark.parametrize("variant", ["plain", "elsewhere", "textfile"])
def test_the_unit_is_hardened(variant: str, tmp_path: Path) -> None:
    """A flaw in a model parser would reach what the machine holds besides."""
    assert exposure(system_unit(VARIANTS[variant]), tmp_path) <= MOST_EXPOSURE


@needs_systemd
def test_each_opening_costs_something(tmp_path: Path) -> None:
    """Were the score to stay the same without the sandbox, it would measure nothing."""
    open_unit = re.sub(r"^(Private|Protect|Restrict|SystemCall|Capability).*\n", "", system_unit(PLAIN), flags=re.M)
    assert exposure(open_unit, tmp_path) > 5
    network = exposure(system_unit(VARIANTS["network"]), tmp_path)
    assert MOST_EXPOSURE < network < 2


def exposure(unit: str, folder: Path) -> float:
    file = folder / "trtd.service"
    file.write_text(unit)
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)], capture_output=True, text=True
    )
    found = re.search(r"Overall exposure level for trtd\.service: ([0-9.]+)", ran.stdout)
    assert found is not None, ran.stderr
    return float(found[1])


def test_gpus_stay_reachable() -> None:
    """Every GPU build would fail under systemd, and work when tried by hand."""
    unit = shipped("trtd.service")
    assert values(unit, "PrivateDevices") == []
    assert values(unit, "DevicePolicy") == ["closed"]
    names = ("nvidia", "nvidiactl", "nvidia-frontend", "nvidia-uvm", "nvidia-caps")
    assert set(values(unit, "DeviceAllow")) == {f"char-{name} rw" for name in names}
    assert values(unit, "ProcSubset") == []
    assert values(unit, "MemoryDenyWriteExecute") == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_locks_of_gpus_are_those_of_the_machine(variant: str) -> None:
    """In a /tmp of its own the service would lock a GPU for itself, and somebody else's build would time both."""
    unit = system_unit(VARIANTS[variant])
    assert LOCKS in values(unit, "ReadWritePaths")
    assert values(unit, "PrivateTmp") == ["yes"]
    (line,) = [line for line in shipped("trtd.tmpfiles").splitlines() if line.startswith("d /run/")]
    assert line.split() == ["d", str(SHARED_LOCKS[0]), "1777", "root", "root", "-"]
    assert SHARED_LOCKS[0].is_relative_to(LOCKS.removeprefix("-"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_registry_is_one_mount(variant: str) -> None:
    """Each writable path is a mount of its own: publishing, a rename from .trtd/ to engines/, would fail with EXDEV."""
    unit = system_unit(VARIANTS[variant])
    registry = VARIANTS[variant].registry
    if registry == DEFAULT_REGISTRY:
        assert values(unit, "StateDirectory") == ["trtd"]
    else:
        assert values(unit, "StateDirectory") == []
        assert values(unit, "ReadWritePaths") == [quoted(registry), LOCKS]
    inside = [path for path in values(unit, "ReadWritePaths") if path.strip('"-').startswith(f"{registry}/")]
    assert inside == []
    assert values(unit, "ProtectSystem") == ["strict"]


def test_nothing_of_a_build_outlives_the_service() -> None:
    """Workers would go on writing into a registry that the next daemon thinks is its own; or one would end it."""
    for unit in (shipped("trtd.service"), shipped("trtd-user.service")):
        assert values(unit, "KillMode") == ["mixed"]
        assert values(unit, "SendSIGKILL") == []
        assert values(unit, "OOMPolicy") == ["continue"]
        assert values(unit, "Restart") == ["on-failure"]
        assert values(unit, "Delegate") == ["memory pids"]
        assert (values(unit, "Type"), values(unit, "NotifyAccess")) == (["notify"], ["main"])
        assert int(values(unit, "WatchdogSec")[0]) > 0


@pytest.mark.parametrize(("drain_s", "stop_s"), [(20.0, 60), (0.0, 60), (30.5, 61), (600.0, 630)])
def test_there_is_time_to_drain(drain_s: float, stop_s: int) -> None:
    """systemd would kill builds that the daemon still gives time to."""
    made = system_unit(Installation(REAL, DEFAULT_REGISTRY, drain_s=drain_s))
    assert values(made, "TimeoutStopSec") == [str(stop_s)]
    assert stop_s > drain_s


def test_paths_are_spelt_as_systemd_reads_them() -> None:
    """A space would split a path in two, a percent sign would become something else, a dollar would vanish."""
    unit = system_unit(VARIANTS["awkward"])
    run = '/bin/true -m "a$$b %%h" run --registry "/srv/my $$HOME %%h; engines" --config "/etc/my #1.toml"'
    assert values(unit, "ExecStart") == [run]
    assert values(unit, "ReadWritePaths") == ['"/srv/my $HOME %%h; engines"', LOCKS]
    for path in ('/a"b', "/a'b", "/a\\b", "/a\nExecStartPre=/bin/sh", "/\udcff", "/a\x7f"):
        with pytest.raises(UsageError, match="cannot spell"):
            system_unit(Installation(REAL, Path(path)))


def test_the_network_is_what_the_configuration_needs() -> None:
    """Webhooks would fail behind a closed sandbox, or a service that needs no network would have one."""

    def of(text: str) -> str:
        return network_of(config_from_text(text, file="t"))

    assert network_of(Config()) == "none"
    assert of('metrics.listen = "127.0.0.1:9464"') == of('metrics.listen = "[::1]:9464"') == "loopback"
    assert of('metrics.listen = "0.0.0.0:9464"') == of('notify.webhook = "https://h/"') == "any"
    closed, loopback, network = (system_unit(VARIANTS[name]) for name in ("plain", "loopback", "network"))
    assert (values(closed, "PrivateNetwork"), values(closed, "RestrictAddressFamilies")) == (["yes"], ["AF_UNIX"])
    assert (values(loopback, "PrivateNetwork"), values(loopback, "IPAddressDeny")) == (["no"], ["any"])
    assert values(loopback, "IPAddressAllow") == ["localhost"]
    assert (values(network, "PrivateNetwork"), values(network, "IPAddressDeny")) == (["no"], [])
    assert values(network, "RestrictAddressFamilies") == ["AF_UNIX AF_INET AF_INET6"]


def test_homes_are_hidden_unless_needed() -> None:
    """The service would not start from a virtual environment in a home, or could read everybody's files."""
    assert values(system_unit(PLAIN), "ProtectHome") == ["yes"]
    assert values(system_unit(VARIANTS["home"]), "ProtectHome") == ["read-only"]


def test_keys_stand_once() -> None:
    """The second of two lines would win, and the first mislead whoever reads the unit."""
    lists = {"SystemCallFilter", "DeviceAllow", "ReadWritePaths"}
    for made in [*map(system_unit, VARIANTS.values()), *map(user_unit, VARIANTS.values())]:
        counts = Counter(re.findall(r"^([A-Za-z]+)=", made, re.MULTILINE))
        assert {key for key, number in counts.items() if number > 1} <= lists


def test_a_users_unit_asks_for_nothing_that_needs_root() -> None:
    """The service would fail to start, or be less closed than its unit says. Source: systemd.exec(5)."""
    unit = shipped("trtd-user.service")
    keys = set(re.findall(r"^([A-Za-z]+)=", unit, re.MULTILINE))
    assert not {key for key in keys if key.startswith(("Private", "Protect", "Device", "IPAddress", "Capability"))}
    assert not keys & {"User", "Group", "AmbientCapabilities", "RemoveIPC", "KeyringMode", "ReadWritePaths"}
    assert values(unit, "WantedBy") == ["default.target"]


def test_the_files_are_where_the_installer_looks() -> None:
    """`trtd install-service` would work in a checkout only."""
    pyproject = (PACKAGING.parent / "pyproject.toml").read_text()
    assert re.search(r'^only-include = .*"packaging"', pyproject, re.MULTILINE)
    assert 'packaging = "trtd/packaging"' in pyproject
    for file in PACKAGING.iterdir():
        assert shipped(file.name) == file.read_text()
    with pytest.raises(EnvironmentMissing, match="lacks packaging/absent"):
        shipped("absent")


@needs_tmpfiles
@pytest.mark.parametrize("registry", ["/var/lib/trtd", "/srv/my %h engines"])
def test_folders_are_open_to_the_group_where_they_should_be(registry: str, tmp_path: Path) -> None:
    """Nobody could drop a spec; or everybody could change trtd.toml, or an engine."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("trtd:x:0:0::/:/bin/false\n")  # the mode is what counts; only root may chown
    (tmp_path / "etc/group").write_text("trtd:x:0:\n")
    file = tmp_path / "trtd.conf"
    file.write_text(tmpfiles(Path(registry)))
    ran = subprocess.run(
        ["systemd-tmpfiles", "--create", "--root", str(tmp_path), str(file)], capture_output=True, text=True
    )
    if "Operation not permitted" in ran.stderr:
        pytest.skip("only root may hand over folders")
    assert (ran.returncode, ran.stderr) == (0, "")
    root = Path(f"{tmp_path}{registry}")
    assert {
        path.relative_to(root).as_posix(): oct(path.stat().st_mode & 0o7777) for path in (root, *root.iterdir())
    } == {
        ".": "0o750",
        "specs": "0o2770",
        "models": "0o2770",
    }


@needs_tmpfiles
def test_the_user_can_be_made(tmp_path: Path) -> None:
    """The service would not start for want of its user."""
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", "--root", str(tmp_path), str(PACKAGING / "trtd.sysusers")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert re.search(
        r"^trtd:x:\d+:\d+:trtd, builds inference engines:/var/lib/trtd:", (tmp_path / "etc/passwd").read_text()
    )


def test_closed_folders_are_found(tmp_path: Path) -> None:
    """The service would fail with 203/EXEC, and nobody would know why."""
    tmp_path.chmod(0o755)
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    (closed / "bin" / "trtd").touch()
    (tmp_path / "link").symlink_to(closed / "bin" / "trtd")
    assert closed not in closed_folders([tmp_path / "link"])
    closed.chmod(0o700)
    assert closed in closed_folders([tmp_path / "link"])


# ----------------------------------------------------------------------------------------- what the filter lets through


@pytest.fixture
def filtered(tmp_path: Path) -> list[str]:
    """The beginning of a command line that runs the rest under the unit's filter."""
    file = tmp_path / "filtered.service"
    file.write_text(system_unit(PLAIN))
    return [sys.executable, str(Path(under_filter.__file__)), str(file)]


@needs_systemd
@needs_filter
def test_the_filter_is_one(filtered: list[str]) -> None:
    """The next test would show nothing."""
    code = """
import os, resource, socket
socket.socket(socket.AF_UNIX)
resource.setrlimit(resource.RLIMIT_DATA, resource.getrlimit(resource.RLIMIT_DATA))
for call in (lambda: socket.socket(socket.AF_INET), lambda: os.chown('/tmp', 0, 0), lambda: os.setuid(0)):
    try:
        call()
    except OSError as error:
        print(error.errno, end=' ')
"""
    ran = subprocess.run([*filtered, sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("97 1 1 ", "")


@needs_systemd
@needs_filter
def test_engines_can_be_built_under_the_filter(filtered: list[str], shop: Workshop) -> None:
    """Every build would fail under systemd, and work when tried by hand."""
    spec = shop.spec("fresh", precision='"int8"')
    command = [sys.executable, "-m", "trtd", "build", str(spec), "--registry", str(shop.registry.root), "--json"]
    ran = subprocess.run([*filtered, *command], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert shop.registry.versions("fresh") == (1,)
