"""The operator's configuration, ``trtd.toml``: found, read, shown, and compared with a newer one.

It is validated like a spec: unknown keys are refused, all faults are told at once with file, line and key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, ValidationError

from trtd.daemon.settings import (
    AccessSection,
    LimitsSection,
    LogSection,
    MetricsSection,
    NotifySection,
    PolicySection,
    RetentionSection,
    RetrySection,
    ShutdownSection,
    WatchSection,
)
from trtd.errors import Diagnostic, SpecError, UsageError
from trtd.spec.section import Section
from trtd.spec.toml_file import Kind, parse, read_text
from trtd.spec.values import printable

CONFIG_FILE = "trtd.toml"
VARIABLE = "TRTD_CONFIG"
LIMIT_BYTES = 1 << 20

Effect = Literal["now", "next build", "restart"]

_KIND = Kind("configuration", "name another with --config FILE, or leave it out to run with the defaults", LIMIT_BYTES)
_SECRET = ("notify.webhook",)
_NEXT_BUILD = (
    "access.",
    "limits.threads",
    "limits.build_deadline_s",
    "limits.stage_",
)
_RESTART = ("metrics.",)  # the counters live as long as the place where they are read


class ConfigError(UsageError):
    """The configuration is wrong. Holds every fault that was found, not only the first."""

    code = "config"

    def __init__(
        self, message: str, *, hint: str = "", where: str = "", diagnostics: Sequence[Diagnostic] = ()
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.diagnostics = tuple(diagnostics)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"diagnostics": [asdict(found) for found in self.diagnostics]}


class Config(Section):
    """Everything that the operator decides. ``Config()`` is what holds without a file."""

    watch: WatchSection = Field(default_factory=WatchSection)
    limits: LimitsSection = Field(default_factory=LimitsSection)
    retry: RetrySection = Field(default_factory=RetrySection)
    access: AccessSection = Field(default_factory=AccessSection)
    policy: PolicySection = Field(default_factory=PolicySection)
    notify: NotifySection = Field(default_factory=NotifySection)
    metrics: MetricsSection = Field(default_factory=MetricsSection)
    log: LogSection = Field(default_factory=LogSection)
    shutdown: ShutdownSection = Field(default_factory=ShutdownSection)
    retention: RetentionSection = Field(default_factory=RetentionSection)

    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """Where it was read from; ``None``: all are defaults."""
        return self._file

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders that specs may read from besides the registry."""
        return tuple(Path(root) for root in self.access.roots)

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Every key with the value that holds: ``{"watch.period_s": {"value": 30.0, "from": "default"}, …}``.

        ``from`` is ``default`` or ``file``. Of a web address only the host is shown: the rest is often a secret.
        """
        return {
            key: {"value": _shown(key, value), "from": "file" if given else "default"}
            for key, value, given in _values(self)
        }


@dataclass(frozen=True)
class Difference:
    """A key whose value is another than before.

    Attributes:
        old, new: as :meth:`Config.resolved` shows them.
        effect: when the new value holds: at once, from the next build on, or only after the daemon is restarted.
    """

    key: str
    old: Any
    new: Any
    effect: Effect

    def __str__(self) -> str:
        when = {"now": "", "next build": " (from the next build on)", "restart": " (after a restart)"}
        return f"{self.key}: {_text(self.old)} -> {_text(self.new)}{when[self.effect]}"


def find_config(path: Path | None, registry_root: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file that holds: ``path``, else ``$TRTD_CONFIG``, else ``trtd.toml`` in the registry, if there is one."""
    if path is not None:
        return path
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    usual = registry_root / CONFIG_FILE if registry_root is not None else None
    return usual if usual is not None and os.path.lexists(usual) else None


def load_config(path: Path | None, registry_root: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration that :func:`find_config` finds; the defaults if it finds none.

    Raises:
        ConfigError: with a diagnostic for each fault; also if a file was named and is not there.
    """
    file = find_config(path, registry_root, environ)
    if file is None:
        return Config()
    name = printable(os.fspath(file))
    try:
        config = config_from_text(read_text(file, _KIND), file=name)
    except SpecError as error:
        raise _config_error(error.diagnostics) from None
    config._file = Path(os.path.abspath(file))
    return config


def config_from_text(text: str, *, file: str) -> Config:
    """Read a configuration from TOML text; ``file`` is the name that diagnostics give to it.

    Raises:
        ConfigError: with a diagnostic for each fault.
    """
    try:
        document = parse(text, file)
    except SpecError as error:
        raise _config_error(error.diagnostics) from None
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        from trtd.spec.diagnose import diagnose
        from trtd.spec.section_tree import SectionTree

        faults = diagnose(error, document, text, file, SectionTree(Config))
    raise _config_error(faults)


def differences(old: Config, new: Config) -> tuple[Difference, ...]:
    """The keys whose values differ, in the order of the reference, and when the new values hold."""
    before = {key: value for key, value, _ in _values(old)}
    return tuple(
        Difference(key, _shown(key, before[key]), _shown(key, value), _effect(key))
        for key, value, _ in _values(new)
        if value != before[key]
    )


def _values(config: Config) -> Iterator[tuple[str, Any, bool]]:
    """Key, value, and whether it was given."""
    for name in type(config).model_fields:
        section: Section = getattr(config, name)
        for key in type(section).model_fields:
            yield f"{name}.{key}", getattr(section, key), key in section.model_fields_set


def _shown(key: str, value: Any) -> Any:
    if key in _SECRET and value is not None:
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.hostname}/…"
    return value


def _text(value: Any) -> str:
    from trtd.spec.values import literal

    return "none" if value is None else literal(value)


def _effect(key: str) -> Effect:
    if key.startswith(_RESTART):
        return "restart"
    return "next build" if key.startswith(_NEXT_BUILD) else "now"


def _config_error(faults: Sequence[Diagnostic]) -> ConfigError:
    listed = "\n".join(map(str, faults))
    message = f"{len(faults)} fault{'s' * (len(faults) != 1)} in the configuration\n{listed}"
    return ConfigError(message, hint="docs/reference/configuration.md describes every key", diagnostics=faults)
