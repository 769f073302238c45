"""A spec for several targets in a real daemon, with a stand-in for the GPU: each target has a life of its own."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.onlooker import Onlooker

CPU, TRT = "net.toml#onnxruntime-cpu", "net.toml#tensorrt"
SHAPES = "".join(f"{key} = [{batch}, 3, 8, 8]\n" for key, batch in (("min", 1), ("opt", 2), ("max", 8)))


def drop(onlooker: Onlooker, *targets: str) -> None:
    """The spec, with a list of targets."""
    onlooker.host.drop(
        "net",
        model=f'path = "../models/tiny.onnx"\n[model.inputs.x]\n{SHAPES}',
        precision=f'"fp16"\ntarget = {list(targets)}',
        more='[publish]\non_delete = "unpublish"',
    )


def test_one_target_fails_while_the_other_is_published_and_the_list_shrinks_and_grows(
    onlooker: Onlooker, gpus_here: Callable[..., None]
) -> None:
    """A GPU without memory would keep the CPU's engine from being published, and build it again at each try."""
    host, registry = onlooker.host, onlooker.host.registry
    gpus_here("8.9", fault="no-memory-to-build")
    onlooker.start()
    drop(onlooker, "onnxruntime-cpu", "tensorrt")
    onlooker.until(lambda: len(onlooker.told(TRT, "failed")) > 1, "it was not tried again")
    onlooker.until_phase(CPU, "ready")
    assert registry.names() == ("net-onnxruntime-cpu",)
    assert "memory" in onlooker.said(TRT)
    assert [len(onlooker.told(CPU, kind)) for kind in ("started", "published", "failed")] == [1, 1, 0]
    assert onlooker.events("net.toml") == []  # while its targets were not known, nothing was worth telling
    assert {device.id: device.slots for device in onlooker.daemon.devices}["GPU-stand-in-0"] == 1

    shown = host.trtd("status").stdout
    assert "specs:  2: " in shown
    table = shown[shown.index("\nSpec") :].split("\n\n")[0]
    rows = {line.split()[0]: line.split()[1] for line in table.strip().splitlines()}
    assert (rows["Spec"], rows["net-onnxruntime-cpu"]) == ("Phase", "ready")
    assert rows["net-tensorrt"] in ("backoff", "queued", "building")
    refused = host.trtd("pause", "net")
    assert refused.returncode == 2
    assert "net is built for several targets: net-onnxruntime-cpu, net-tensorrt" in refused.stderr
    assert host.trtd("pause", "net-tensorrt").returncode == 0
    onlooker.until_phase(TRT, "paused")
    assert onlooker.phase(CPU) == "ready"

    drop(onlooker, "onnxruntime-cpu")
    onlooker.until(lambda: onlooker.subject(TRT) is None, "what is listed no more is still shown")
    onlooker.until(lambda: bool(onlooker.told(CPU, "up-to-date")), "nobody looked at the edited spec")
    onlooker.until_phase(CPU, "ready")

    host.processes[-1].kill()
    host.processes[-1].wait()
    gpus_here("8.9")
    drop(onlooker, "tensorrt", "onnxruntime-cpu")
    onlooker.start()
    onlooker.until_phase(TRT, "ready")  # not paused: it came anew
    onlooker.until_phase(CPU, "ready")
    assert registry.names() == ("net-onnxruntime-cpu", "net-tensorrt")
    assert (registry.versions("net-tensorrt"), registry.versions("net-onnxruntime-cpu")) == ((1,), (1,))
    assert host.trtd("logs", "net-tensorrt").stdout

    drop(onlooker, "tensorrt")
    onlooker.until(lambda: onlooker.subject(CPU) is None, "what is listed no more is still shown")
    assert registry.versions("net-onnxruntime-cpu") == ()
    assert registry.versions("net-tensorrt") == (1,)
    (registry.specs / "net.toml").unlink()
    onlooker.until(lambda: onlooker.subject(TRT) is None, "the deleted spec is still shown")
    assert registry.names() == ()
