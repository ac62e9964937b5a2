"""The bag that is written, read by rosbags and, where it is installed, by the mcap library."""

import dataclasses

import numpy as np
import pytest
from export_samples import make_frame, make_session
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from redepth_ros.core.errors import ConfigError
from redepth_ros.exports import bag
from redepth_ros.exports.bag import BagExporter, RawTopic

STORE = get_typestore(Stores.ROS2_JAZZY)
STRING = RawTopic(
    "/chatter",
    "std_msgs/msg/String",
    STORE.generate_msgdef("std_msgs/msg/String", ros_version=2)[0],
    STORE.hash_rihs01("std_msgs/msg/String"),
)


def raw_messages(start):
    """One message each 0.05 s, from 0.9 s to 1.45 s."""
    for number in range(12):
        time = 900_000_000 + number * 50_000_000
        if time >= start:
            message = STORE.types["std_msgs/msg/String"](str(number))
            yield STRING, time, bytes(STORE.serialize_cdr(message, STRING.type))


def read(folder):
    with AnyReader([folder]) as reader:
        return [
            (connection.topic, time, reader.deserialize(data, connection.msgtype))
            for connection, time, data in reader.messages()
        ]


def test_depth_is_written_between_the_messages_of_the_input(export):
    messages = read(export(BagExporter, topics=[STRING], messages=raw_messages))
    assert [one.data for topic, _, one in messages if topic == "/chatter"] == [str(i) for i in range(12)]
    times = [time for _, time, _ in messages]
    assert times == sorted(times)
    counts = {topic: sum(topic == other for other, _, _ in messages) for topic, _, _ in messages}
    assert counts == {
        "/chatter": 12,
        "/depth/image": 3,
        "/depth/camera_info": 3,
        "/depth/stddev": 3,
        "/refined/image": 1,
        "/refined/depth": 1,
        "/refined/camera_info": 1,
        "/refined/stddev": 1,
    }


def test_messages_have_the_stamp_and_frame_id_of_the_image(export):
    messages = {}
    for topic, _, message in read(export(BagExporter)):
        messages.setdefault(topic, []).append(message)
    image, info = messages["/depth/image"][1], messages["/depth/camera_info"][1]
    for message in (image, info, messages["/refined/depth"][0]):
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1, 100_000_000)
        assert message.header.frame_id == "camera"
    assert (image.encoding, image.height, image.width, image.step) == ("32FC1", 24, 32, 128)
    depth = np.frombuffer(image.data, "<f4").reshape(24, 32)
    assert np.array_equal(depth, make_frame(1).depth, equal_nan=True)
    assert info.k.tolist() == [40.0, 0.0, 15.0, 0.0, 41.0, 11.0, 0.0, 0.0, 1.0]
    assert (info.width, info.height, info.p[6]) == (32, 24, 11.0)


def test_a_recorded_calibration_is_kept(export):
    types = STORE.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "other")
    region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    info = types["sensor_msgs/msg/CameraInfo"](
        header, 24, 32, "rational", np.arange(8.0), np.ones(9), np.ones(9), np.ones(12), 2, 2, region
    )
    messages = read(export(BagExporter, frames=[make_frame(0, camera_info=info)]))
    written = next(message for topic, _, message in messages if topic == "/depth/camera_info")
    assert written.distortion_model == "rational"
    assert written.d.tolist() == list(range(8))
    assert (written.header.stamp.sec, written.header.frame_id, written.binning_x) == (1, "camera", 2)


def test_a_second_call_goes_on_in_another_file(tmp_path):
    for indices in ([0], [1, 2]):
        exporter = BagExporter(tmp_path / "bag", make_session(), topics=[STRING], messages=raw_messages)
        for index in indices:
            exporter.write(make_frame(index))
        if indices[-1] == 2:
            exporter.complete()
        exporter.checkpoint()
    messages = read(tmp_path / "bag")
    assert [one.data for topic, _, one in messages if topic == "/chatter"] == [str(i) for i in range(12)]
    assert sum(topic == "/depth/image" for topic, _, _ in messages) == 3
    assert sorted(path.name for path in (tmp_path / "bag").iterdir()) == [
        "bag_0.mcap",
        "bag_1.mcap",
        "metadata.yaml",
    ]


def test_large_bags_are_split_and_what_was_closed_survives(tmp_path, monkeypatch):
    monkeypatch.setattr(bag, "PART_FRAMES", 2)
    exporter = BagExporter(tmp_path / "bag", make_session())
    for index in range(5):
        exporter.write(make_frame(index))
        if exporter.wants_checkpoint:
            exporter.checkpoint()
    # The process is killed here: the last frame is lost, the others can be read.
    assert not exporter.is_durable
    messages = read(tmp_path / "bag")
    assert sum(topic == "/depth/image" for topic, _, _ in messages) == 4


def test_a_namespace_keeps_topics_apart(tmp_path):
    topic = dataclasses.replace(STRING, name="/depth/image")
    with pytest.raises(ConfigError, match=r"has the topics /depth/image already.*--namespace"):
        BagExporter(tmp_path, make_session(), topics=[topic], messages=raw_messages)
    BagExporter(tmp_path, make_session(), topics=[topic], messages=raw_messages, prefix="/redepth")


def test_images_are_written_where_the_input_is_no_bag(export):
    messages = read(export(BagExporter, with_images=True))
    image = next(message for topic, _, message in messages if topic == "/image")
    assert image.encoding == "rgb8"
    assert image.data[:3].tolist() == [200, 100, 10]


def test_the_mcap_library_reads_it(export):
    mcap_reader = pytest.importorskip("mcap.reader")
    decoder = pytest.importorskip("mcap_ros2.decoder").DecoderFactory()
    path = export(BagExporter, topics=[STRING], messages=raw_messages) / "out_0.mcap"
    with path.open("rb") as stream:
        reader = mcap_reader.make_reader(stream, decoder_factories=[decoder])
        messages = [(channel.topic, message) for _, channel, _, message in reader.iter_decoded_messages()]
    depth = next(message for topic, message in messages if topic == "/depth/image")
    assert depth.encoding == "32FC1"
    assert np.array_equal(
        np.frombuffer(depth.data, "<f4").reshape(24, 32), make_frame(0).depth, equal_nan=True
    )
