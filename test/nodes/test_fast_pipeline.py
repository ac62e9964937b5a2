"""The fast pipeline with a fake network: one frame, and the two threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from fakes import (
    CAMERA,
    PATIENCE,
    FakeAnchorSource,
    FakeDepthNetwork,
    header_at,
    image_at,
    sample_image,
)
from sensor_msgs.msg import CompressedImage

from redepth_ros.core.errors import AnchorError, ImageError
from redepth_ros.core.metric.anchors import anchors_from_depth
from redepth_ros.core.metric.scale import Scale
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.nodes.fast_pipeline import FastPipeline, Frame
from redepth_ros.nodes.metric_depth import MetricDepth
from redepth_ros.nodes.metric_scale import MetricScale
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.nodes.stream_statistics import StreamStatistics
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.streams.calibration_cache import CalibrationCache
from redepth_ros.ros.streams.frame_buffer import FrameBuffer


class FakeReservation:
    def __init__(self):
        self.released = False

    def release(self):
        self.released = True


class Setup:
    """A pipeline whose parts are fakes or plain objects."""

    def __init__(self, *, metric=False, source=None, network=None, **parameters):
        self.settings = DepthSettings(**parameters)
        self.network = network or FakeDepthNetwork(metric)
        self.source = source
        self.warnings, self.errors, self.reservations = [], [], []
        self.server, self.stddev_needed = True, False
        self.camera_infos, self.frame_buffer = CalibrationCache(10, "/camera_info", print), FrameBuffer(10)
        self.statistics = StreamStatistics()
        self.metric_scale = MetricScale(self.settings, metric, source, self.warnings.append)
        self.pipeline = FastPipeline(
            self.network,
            MetricDepth(self.metric_scale),
            self.settings,
            camera_infos=self.camera_infos,
            frame_buffer=self.frame_buffer,
            statistics=self.statistics,
            reserve=self.reserve,
            needs_stddev=lambda: self.stddev_needed,
            guard=self.guard,
            warn=self.warnings.append,
        )

    def reserve(self):
        if not self.server:
            return None
        self.reservations.append(FakeReservation())
        return self.reservations[-1]

    @contextmanager
    def guard(self, work):
        try:
            yield
        except Exception as error:
            self.errors.append(error)

    def change(self, **parameters):
        self.settings = DepthSettings(**parameters)
        self.pipeline.adopt(self.settings)

    def process(self, seconds=1.0, image=None):
        message = image if hasattr(image, "header") else image_at(seconds, image)
        return self.pipeline.process(Frame(message, 5.0))


def output():
    return FakeDepthNetwork().output(sample_image()).numpy()


# One frame.


def test_a_frame_has_the_depth_of_the_network():
    setup = Setup()
    message = image_at(1.0)
    frame = setup.process(image=message)
    np.testing.assert_allclose(frame.depth.numpy(), 1.0 / output(), rtol=1e-6)
    np.testing.assert_array_equal(frame.image, sample_image())
    assert frame.message is message
    assert (frame.received_at, frame.settings) == (5.0, setup.settings)
    assert (frame.scale, frame.anchors, frame.stddev) == (Scale(), None, None)
    assert setup.statistics.model_time.total == 1


def test_a_metric_network_gives_metres():
    frame = Setup(metric=True, scale=2.0).process()
    np.testing.assert_allclose(frame.depth.numpy(), 2.0 * output(), rtol=1e-5)


def test_the_calibration_gives_metres_to_a_network_that_needs_it():
    setup = Setup()
    setup.network.scale_source = "calibration"
    setup.camera_infos.add(camera_to_msg(CAMERA, header_at(1.0)))
    frame = setup.process(1.0)
    assert frame.scale == Scale(CAMERA.fx / 300.0)
    np.testing.assert_allclose(frame.depth.numpy(), CAMERA.fx / 300.0 / output(), rtol=1e-6)


def test_scale_and_shift_are_applied():
    frame = Setup(scale=3.0, shift=0.5).process()
    np.testing.assert_allclose(frame.depth.numpy(), 3.0 / (output() + 0.5), rtol=1e-6)


def test_depth_beyond_the_limits_is_masked():
    depth = 1.0 / output()
    low, high = np.percentile(depth, (20, 80))
    found = Setup(min_depth=float(low), max_depth=float(high)).process().depth.numpy()
    np.testing.assert_array_equal(np.isfinite(found), (depth >= low) & (depth <= high))


def test_new_parameters_apply_to_the_next_frame():
    setup = Setup()
    setup.change(scale=2.0)
    frame = setup.process()
    np.testing.assert_allclose(frame.depth.numpy(), 2.0 / output(), rtol=1e-6)
    assert frame.settings is setup.settings


@pytest.mark.parametrize("reason", ["subscribers", "limit"])
def test_the_standard_deviation_is_computed_when_needed(reason):
    setup = Setup(max_relative_stddev=5.0 if reason == "limit" else 0.0)
    setup.stddev_needed = reason == "subscribers"
    frame = setup.process()
    relative = frame.stddev / frame.depth
    assert bool((relative >= 0.1 - 1e-6).all())  # the assumed part
    assert float(relative.min()) < 0.2


def test_uncertain_depth_is_masked():
    frame = Setup(max_relative_stddev=0.05).process()
    assert bool(frame.depth.isnan().all())
    assert bool(frame.stddev.isnan().all())


def test_compressed_images_are_decoded():
    data = cv2.imencode(".png", sample_image()[..., ::-1])[1].tobytes()
    message = CompressedImage(header=header_at(1.0), format="png", data=data)
    np.testing.assert_array_equal(Setup().process(image=message).image, sample_image())


def test_an_image_above_the_limit_is_an_error():
    setup = Setup(max_megapixels=0.01)
    with pytest.raises(ImageError, match="megapixels"):
        setup.process(image=np.zeros((200, 100, 3), np.uint8))
    message = CompressedImage(header=header_at(1.0), format="png")
    message.data = cv2.imencode(".png", np.zeros((200, 100, 3), np.uint8))[1].tobytes()
    with pytest.raises(ImageError, match="megapixels"):
        setup.process(image=message)


def test_depth_is_invalid_without_a_scale():
    frame = Setup(source=FakeAnchorSource(), anchors="depth").process()
    assert frame.scale is None
    assert bool(frame.depth.isnan().all())
    assert frame.depth.shape == (24, 32)


def test_anchors_give_metres_and_stay_with_the_frame():
    anchors = anchors_from_depth((6.0 / (output() + 0.4)).astype(np.float32))
    setup = Setup(source=FakeAnchorSource([anchors]), anchors="depth")
    setup.frame_buffer.add(image_at(1.0))
    frame = setup.process()
    np.testing.assert_allclose(frame.depth.numpy(), 6.0 / (output() + 0.4), rtol=0.02)
    assert frame.anchors is anchors
    assert setup.frame_buffer.find(header_at(1.0).stamp)[1] is anchors


# A network whose prompt is measured depth.


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    pytest.importorskip("transformers")
    from prompt_networks import save_prompt_network

    return load_depth_network(save_prompt_network(tmp_path_factory.mktemp("prompt")), device="cpu")


def floor(factor=1.0):
    """Return the anchors of a floor of 2 to 4 m, times a factor."""
    return anchors_from_depth(factor * np.linspace(4.0, 2.0, 24)[:, None].repeat(32, 1))


def test_the_anchors_of_a_frame_are_the_prompt_of_its_network(prompted):
    anchors = floor()
    setup = Setup(
        metric=True,
        network=prompted,
        source=FakeAnchorSource([anchors]),
        anchors="depth",
        fuse_anchors=False,
    )
    frame = setup.process()
    assert frame.anchors is anchors
    assert setup.source.items == []  # not asked for twice
    expected = frame.scale.scale * prompted.with_prompt(anchors).predict(sample_image())
    torch.testing.assert_close(frame.depth, expected, rtol=1e-4, atol=1e-4)
    assert frame.scale.scale == pytest.approx(1.0, rel=0.3)


def test_a_frame_without_a_prompt_is_skipped_and_counted(prompted):
    """Its depth would have another unit than that of the others."""
    source = FakeAnchorSource([None, AnchorError("the topic is silent"), floor()])
    setup = Setup(metric=True, network=prompted, source=source, anchors="depth")
    assert setup.process(1.0) is None
    assert setup.warnings == []
    assert setup.process(2.0) is None
    assert setup.warnings == ["anchors give no scale, there is no scale yet: the topic is silent"]
    assert setup.process(3.0) is not None
    assert setup.statistics.health("image").values["frames without a prompt"] == 2


def test_a_bad_prompt_is_an_error_of_its_frame(prompted):
    anchors = anchors_from_depth(np.full((24, 32), 2.0))
    setup = Setup(metric=True, network=prompted, source=FakeAnchorSource([anchors]), anchors="depth")
    with pytest.raises(AnchorError, match="depth is 2 m: a prompt needs different depths"):
        setup.process()


def test_a_prompt_that_the_scale_refuses_gives_no_depth(prompted):
    setup = Setup(metric=True, network=prompted, source=FakeAnchorSource([floor()]), anchors="depth")
    setup.metric_scale.update = lambda *arguments: (Scale(), None)
    frame = setup.process()
    assert bool(frame.depth.isnan().all())
    assert (frame.scale, frame.anchors, frame.reservation) == (None, None, None)
    assert setup.warnings == ["the anchors are refused, and the depth with them: they are its prompt"]


def test_without_a_source_of_anchors_the_network_is_relative(prompted):
    setup = Setup(network=prompted)
    frame = setup.process()
    torch.testing.assert_close(frame.depth, 1.0 / prompted.predict(sample_image()))
    assert setup.statistics.unprompted == 0


def test_the_camera_of_the_last_second_is_used():
    setup = Setup(source=FakeAnchorSource(), anchors="depth")
    cameras = []
    setup.source.anchors = lambda header, height, width, camera: cameras.append(camera)
    setup.process(1.0)
    setup.camera_infos.add(camera_to_msg(CAMERA, header_at(1.0)))
    setup.process(1.9)
    setup.process(2.1)
    other = camera_to_msg(CAMERA, header_at(5.0))
    other.width = 640
    setup.camera_infos.add(other)
    setup.process(5.0)
    assert cameras == [None, CAMERA, None, None]


def test_a_network_whose_output_is_nan_is_reported_with_the_remedy():
    setup = Setup(keyframes="all", keyframe_min_interval=0.0)
    good, setup.network.dtype = setup.network.output, torch.float16
    setup.network.output = lambda image: torch.full(image.shape[:2], torch.nan)
    frame = setup.process(1.0)
    assert bool(frame.depth.isnan().all())
    assert (frame.scale, frame.reservation) == (None, None)
    assert setup.warnings == [
        "the network's output is not finite at 100 % of the pixels; values overflow in float16: set "
        "precision to float32"
    ]
    setup.network.dtype = torch.float32
    setup.network.output = lambda image: good(image).index_fill(0, torch.arange(6), torch.inf)
    frame = setup.process(2.0)
    assert frame.reservation is not None
    assert setup.warnings[1:] == [
        "the network's output is not finite at 25 % of the pixels; the weights may be damaged: choose "
        "another model"
    ]
    setup.network.output = good
    setup.process(3.0)
    assert len(setup.warnings) == 2


def test_depth_that_is_masked_throughout_is_reported_with_its_limits():
    setup = Setup(scale=1000.0, max_depth=20.0, max_relative_stddev=0.5)
    assert bool(setup.process().depth.isnan().all())
    (warning,) = setup.warnings
    assert warning.startswith(
        "no pixel of the depth is valid: all are masked by min_depth = 0 m, max_depth = 20 m"
    )
    assert "max_relative_stddev = 0.5" in warning


# Keyframes.


def test_a_class_token_that_is_not_finite_makes_no_keyframe():
    setup = Setup(keyframes="motion")
    predict = setup.network.predict_frame
    setup.network.predict_frame = lambda *image: replace(
        predict(*image), class_token=torch.full((3,), torch.nan)
    )
    assert setup.process(1.0).reservation is None
    setup.network.predict_frame = predict
    assert setup.process(2.0).reservation is not None


def test_the_first_frame_is_a_keyframe_under_the_policy_motion():
    setup = Setup()
    assert setup.process(1.0).reservation is setup.reservations[0]
    assert setup.process(10.0).reservation is None
    assert setup.process(20.0, sample_image() * np.uint8([1, 0, 0])).reservation is not None


def test_none_makes_no_keyframe():
    setup = Setup(keyframes="none")
    assert setup.process().reservation is None
    assert not setup.reservations


def test_a_frame_without_a_scale_is_not_a_keyframe():
    setup = Setup(source=FakeAnchorSource(), anchors="depth", keyframes="all")
    assert setup.process().reservation is None
    assert not setup.reservations


def test_a_frame_is_not_a_keyframe_without_a_server_and_the_next_one_is():
    setup = Setup(keyframes="on_request")
    setup.pipeline.request_keyframe()
    setup.server = False
    assert setup.process(1.0).reservation is None
    setup.server = True
    assert setup.process(1.1).reservation is not None
    assert setup.process(1.2).reservation is None


@pytest.mark.parametrize("policy", ["motion", "interval", "on_request"])
def test_a_lost_keyframe_is_replaced_though_the_camera_stands_still(policy):
    setup = Setup(keyframes=policy, keyframe_interval=1000.0, keyframe_min_interval=0.0)
    setup.pipeline.request_keyframe()
    assert setup.process(1.0).reservation is not None
    setup.pipeline.lose_keyframe()
    assert setup.process(1.9).reservation is None  # a server that is busy is not asked at each frame
    assert setup.process(2.0).reservation is not None
    assert setup.process(9.0).reservation is None


def test_keyframes_keep_their_interval():
    setup = Setup(keyframes="interval", keyframe_interval=2.0, keyframe_min_interval=0.0)
    found = [setup.process(seconds).reservation is not None for seconds in (1.0, 2.9, 3.0, 4.0, 5.1)]
    assert found == [True, False, True, False, True]


def test_only_a_change_of_the_keyframe_parameters_restarts_the_selection():
    setup = Setup(keyframes="interval", keyframe_interval=50.0)
    assert setup.process(1.0).reservation is not None
    setup.change(keyframes="interval", keyframe_interval=50.0, scale=2.0)
    assert setup.process(5.0).reservation is None
    setup.change(keyframes="interval", keyframe_interval=40.0)
    assert setup.process(6.0).reservation is not None


# The threads.


@pytest.fixture
def threads():
    pools = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    yield pools
    for pool in pools:
        pool.shutdown()


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Running:
    """A started pipeline, and what it published."""

    def __init__(self, threads, setup, publish=None):
        self.setup, self.published, self.torch_threads = setup, [], []
        self.semaphore = threading.Semaphore(0)
        self.publish = publish or (lambda frame: None)
        setup.pipeline.start(*threads, self.collect)

    def collect(self, frame):
        self.torch_threads.append(torch.get_num_threads())
        self.published.append(frame.message.header.stamp.sec)
        self.semaphore.release()
        self.publish(frame)

    def wait(self, count=1):
        for _ in range(count):
            assert self.semaphore.acquire(timeout=PATIENCE)


def test_images_are_published_in_the_publishing_thread(threads):
    running = Running(threads, Setup())
    for seconds in (1.0, 2.0, 3.0):
        running.setup.pipeline.put(image_at(seconds))
        running.wait()
    running.setup.pipeline.stop()
    assert running.published == [1, 2, 3]
    assert running.torch_threads == [1, 1, 1]
    assert running.setup.statistics.overwritten == 0


def test_only_the_newest_image_is_processed_and_the_others_are_counted(threads):
    running = Running(threads, Setup())
    network, pipeline = running.setup.network, running.setup.pipeline
    network.hold()
    pipeline.put(image_at(1.0))
    wait_until(lambda: pipeline._mailbox._item is None)
    for seconds in (2.0, 3.0, 4.0):
        pipeline.put(image_at(seconds))
    network.release()
    running.wait(2)
    pipeline.stop()
    assert running.published == [1, 4]
    assert running.setup.statistics.overwritten == 2


def test_a_bad_frame_is_skipped_and_the_next_is_published(threads):
    running = Running(threads, Setup())
    bad = image_at(1.0)
    bad.encoding = "h264"
    running.setup.pipeline.put(bad)
    wait_until(lambda: running.setup.errors)
    running.setup.pipeline.put(image_at(2.0))
    running.wait()
    running.setup.pipeline.stop()
    assert running.published == [2]
    assert "h264" in str(running.setup.errors[0])


def test_a_frame_that_can_not_be_published_is_skipped_and_its_place_released(threads):
    def fail(frame):
        if frame.message.header.stamp.sec == 1:
            raise RuntimeError("no disk")

    running = Running(threads, Setup(keyframes="all", keyframe_min_interval=0.0), fail)
    for seconds in (1.0, 2.0):
        running.setup.pipeline.put(image_at(seconds))
        running.wait()
    running.setup.pipeline.stop()
    assert running.published == [1, 2]
    assert [str(error) for error in running.setup.errors] == ["no disk"]
    assert [reservation.released for reservation in running.setup.reservations] == [True, True]


def test_an_error_while_a_place_is_released_does_not_end_the_threads(threads, monkeypatch):
    def fail(reservation):
        raise RuntimeError("the executor is gone")

    monkeypatch.setattr(FakeReservation, "release", fail)
    running = Running(threads, Setup(keyframes="all", keyframe_min_interval=0.0))
    for seconds in (1.0, 2.0, 3.0):
        running.setup.pipeline.put(image_at(seconds))
        running.wait()
    running.setup.pipeline.stop()
    assert running.published == [1, 2, 3]
    assert [str(error) for error in running.setup.errors] == 3 * ["the executor is gone"]


def test_stop_returns_after_an_error_that_ended_the_model_thread(threads, monkeypatch):
    @contextmanager
    def guard(work):
        yield
        if work == "process":
            raise RuntimeError("an error of the guard itself")

    setup = Setup()
    monkeypatch.setattr(setup.pipeline, "_guard", guard)
    running = Running(threads, setup)
    setup.pipeline.put(image_at(1.0))
    running.wait()
    assert setup.pipeline.begin_stop().result(PATIENCE) is None


def test_stop_publishes_the_frame_at_work_and_start_begins_again(threads):
    running = Running(threads, Setup())
    pipeline = running.setup.pipeline
    pipeline.put(image_at(1.0))
    running.wait()
    pipeline.stop()
    pipeline.stop()  # twice is allowed
    pipeline.put(image_at(2.0))
    pipeline.start(*threads, running.collect)
    pipeline.put(image_at(3.0))
    running.wait()
    pipeline.stop()
    assert running.published == [1, 3]


def test_start_restarts_the_selection_of_keyframes(threads):
    setup = Setup(keyframes="interval", keyframe_interval=1000.0)
    running = Running(threads, setup)
    for seconds in (1.0, 2.0):
        setup.pipeline.put(image_at(seconds))
        running.wait()
    setup.pipeline.stop()
    assert len(setup.reservations) == 1
    setup.pipeline.start(*threads, running.collect)
    setup.pipeline.put(image_at(3.0))
    running.wait()
    setup.pipeline.stop()
    assert len(setup.reservations) == 2


def test_the_frame_has_no_view_of_the_message_that_changes():
    """rgb8 images are views; the network must not write to them."""
    message = image_to_msg(sample_image(), "rgb8", header_at(1.0))
    before = bytes(message.data)
    Setup().process(image=message)
    assert bytes(message.data) == before
