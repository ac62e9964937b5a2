"""Faults that tools/mutate.py applies: file, exact text, replacement, and what the fault is.

Each one is a mistake that a person could make and that changes what users get. The text must occur
exactly once in its file.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MUTATIONS", "Mutation"]


@dataclass(frozen=True)
class Mutation:
    """One fault."""

    file: str
    """Below the root of the repository."""
    old: str
    new: str
    fault: str
    """What is wrong afterwards."""


def _core(module: str, old: str, new: str, fault: str) -> Mutation:
    return Mutation(f"redepth_ros/core/{module}.py", old, new, fault)


def _ros(module: str, old: str, new: str, fault: str) -> Mutation:
    return Mutation(f"redepth_ros/ros/{module}.py", old, new, fault)


def _nodes(module: str, old: str, new: str, fault: str) -> Mutation:
    return Mutation(f"redepth_ros/nodes/{module}.py", old, new, fault)


MUTATIONS = [
    # core: geometry, images, errors, settings.
    _core("camera", "(self.cx + 0.5) * x - 0.5", "self.cx * x", "resizing ignores pixel centres"),
    _core("camera", "cross(along_v, along_u", "cross(along_u, along_v", "normals face away from the camera"),
    _core(
        "camera", "(v - camera.cy) / camera.fy", "(v - camera.cy) / camera.fx", "y uses the focal length of x"
    ),
    _core(
        "camera",
        "torch.where(shifted > 0, scale / torch.where(shifted > 0, shifted, 1.0), torch.nan)",
        "scale / shifted",
        "depth behind the camera is valid",
    ),
    _core("images", "(values.astype(np.uint32) + 128) // 257", "values >> 8", "16 bits are rounded down"),
    _core("metrics", "0.1 / truth.max()", "1e-6", "an alignment that crosses zero explodes"),
    _core("metrics", "(ratio < 1.25))", "(ratio < 1.25**2))", "delta 1 is delta 2"),
    _core("relighting", "(1.0 - lighting.ambient) * diffuse", "diffuse", "ambient light is added twice"),
    _core(
        "relighting",
        "new_tensor([-1.0, 1.0, 1.0])",
        "new_tensor([1.0, -1.0, 1.0])",
        "lights mirrored vertically",
    ),
    _core("memory", "if not known and not any", "if not any", "CUDA's out-of-memory error passes"),
    _core("settings", "self.high is not None and value > self.high", "False", "settings have no upper limit"),
    _core("settings", "not math.isfinite(value)", "False", "NaN is a valid setting"),
    # core/metric: the scale.
    _core(
        "metric/anchors", "np.minimum.at", "np.maximum.at", "the farthest of several points hides the others"
    ),
    _core(
        "metric/anchors",
        "points[points[:, 2] > 0]",
        "points[points[:, 2] != 0]",
        "points behind the camera count",
    ),
    _core("metric/anchors", "depth_frame != image_frame", "False", "anchors of any frame are taken"),
    _core("metric/anchors", "(self.rows + 0.5) * (height", "self.rows * (height", "resized anchors move up"),
    _core(
        "metric/scale", "- 2.0 * cov * inverse", "+ 2.0 * cov * inverse", "the covariance has the wrong sign"
    ),
    _core(
        "metric/scale",
        "    return depth_from_disparity(output)",
        "    return output",
        "metric output is a disparity",
    ),
    _core(
        "metric/scale_fit",
        "fit_shift and high - low < 0.02",
        "fit_shift and high - low < 0.0",
        "one depth is enough",
    ),
    _core(
        "metric/scale_filter",
        "self._process_noise**2",
        "0.0 * self._process_noise**2",
        "the scale never drifts",
    ),
    _core(
        "metric/scale_filter",
        "(jump := self._find_jump()) is not None",
        "(jump := None) is not None",
        "no jumps",
    ),
    _core(
        "metric/scale_filter", "if time < self._time:", "if False:", "a clock that jumps back is not noticed"
    ),
    _core(
        "metric/scale_filter", "_distance(innovation, spread) < GATE", "True", "every measurement is accepted"
    ),
    _core("metric/ground_plane", "Scale(length * height", "Scale(height / length", "the scale is inverted"),
    _core(
        "metric/uncertainty", "torch.maximum(across.abs(), down.abs())", "across.abs()", "only vertical edges"
    ),
    _core("metric/uncertainty", "assumed_relative_stddev**2", "0.0", "the assumed error is left out"),
    _core("metric/uncertainty", "(depth >= self.min_depth) &", "", "min_depth has no effect"),
    # core/refine: the refinement.
    _core("refine/sds", "alpha.sqrt() * signal", "alpha * signal", "the signal is too small"),
    _core(
        "refine/sds", "weight * (predicted - noise)", "weight * (noise - predicted)", "the gradient ascends"
    ),
    _core(
        "refine/sds", "scale * (conditional - unconditional)", "scale * unconditional", "guidance is wrong"
    ),
    _core(
        "refine/guidance",
        "relit.flip(-1), lighting.mirrored()",
        "relit.flip(-1), lighting",
        "unmirrored lights",
    ),
    _core(
        "refine/guidance",
        "return per_shape / LOSS_SCALE",
        "return per_shape",
        "the SDS gradient is 1024 times too large",
    ),
    _core(
        "refine/guidance",
        "low, high + 1, (count,)",
        "low, high, (count,)",
        "the largest noise level is never drawn",
    ),
    _core(
        "metric/scale_tracker",
        "        self._check_unit(fit.scale)",
        "        pass",
        "millimetres pass for metres",
    ),
    _core("refine/losses", "-4.0", "-3.0", "the Laplacian of a plane is not zero"),
    _core(
        "refine/losses",
        "valid = predicted.detach() > 0",
        "valid = predicted.detach() != 0",
        "invalid depth has a loss",
    ),
    _core("refine/objective", "weights.anchor_weight * anchors", "anchors", "anchor_weight has no effect"),
    _core(
        "refine/objective",
        "            D = self.trust_region.bound(D)",
        "            pass",
        "no trust region",
    ),
    _core(
        "refine/ensemble",
        "progress <= self.start",
        "progress < self.start",
        "the average starts a step early",
    ),
    _core("refine/ensemble", "return self.total / self.count", "return self.total", "averages are sums"),
    _core("refine/parametrization", "+ torch.tanh(", "+ 0.0 * torch.tanh(", "the scale offset has no effect"),
    _core("refine/trust_region", "maps - self._reference)", "maps)", "the trust region is around zero"),
    _core("refine/checks", "if change > max_change", "if False", "a depth that diverged is accepted"),
    _core("refine/checks", "if contrast < min_contrast", "if False", "a depth that collapsed is accepted"),
    _core("refine/run", "depths.std(0) / depth", "depths.std(0)", "the spread is not relative"),
    _core("refine/run", "< 1.0 / 255.0", "< 0.0", "an image with a single colour is refined"),
    _core(
        "refine/schedule", "self.elapsed > self._time_budget - self.reserve", "False", "nothing is cut off"
    ),
    _core("refine/schedule", "if self._settings.time_budget:", "if False:", "no steps are planned"),
    _core("refine/schedule", "left - self.check_seconds", "left", "the checks have no time of their own"),
    _core("refine/schedule", "/ (1 + max(0, later))", "", "later members have no time of their own"),
    _core(
        "refine/schedule",
        "progress + (1.0 - progress) *",
        "progress +",
        "a changed plan is not run to its end",
    ),
    _core(
        "refine/ensemble", "value[:size].clone()", "value[-size:].clone()", "members change their momentum"
    ),
    _core("refine/optimization", "guidance.batch_size == 1", "True", "batches are not made smaller"),
    _core(
        "refine/result",
        "(self.refined + self.disparity_offset) /",
        "1.0 /",
        "the spread ignores the disparity",
    ),
    _core(
        "stream/keyframes", "if since < self._min_interval", "if False", "keyframes follow each other at once"
    ),
    _core("stream/keyframes", "if self._requested or self._last", "if self._last", "requests wait"),
    _core(
        "stream/mailbox",
        "return None if self._closed else item",
        "return item",
        "a closed mailbox still delivers",
    ),
    _core("stream/sliding_window", "(len(times) - 1)", "len(times)", "the rate counts one event too many"),
    # ros: messages, streams, and what every node needs.
    _ros("msgs/time", "int(stamp.nanosec)", "0", "stamps lose their nanoseconds"),
    _ros("msgs/point_clouds", "wide[..., 0] << 16", "wide[..., 2] << 16", "red points are blue"),
    _ros(
        "msgs/point_clouds",
        "msg.height, msg.width, msg.row_step = height, width,",
        "msg.row_step =",
        "the cloud is flat",
    ),
    Mutation(
        "redepth_ros/recordings/messages/images.py",
        "height * width > max_megapixels * 1e6",
        "False",
        "max_megapixels has no effect",
    ),
    _ros("msgs/refine_depth", "if value}", "}", "zeros of a goal override the server"),
    _ros(
        "streams/message_cache",
        "<= tolerance * 1e9",
        "<= tolerance * 1e10",
        "the tolerance is ten times as large",
    ),
    _ros("streams/stamp_check", "if stamp == last:", "if False:", "duplicate stamps are accepted"),
    _ros("streams/frame_buffer", "(anchored or found)[-1]", "found[-1]", "frames without anchors come first"),
    _ros("streams/anchor_input", "if message is self._used:", "if False:", "anchors count twice"),
    _ros(
        "streams/goal_scheduler",
        "dismissed = self._clear(DISPLACED)",
        "dismissed = []",
        "latest does not replace",
    ),
    _ros(
        "streams/goal_scheduler",
        "waiting >= queue_size",
        "waiting > queue_size",
        "the queue is one goal too long",
    ),
    _ros(
        "streams/refine_client",
        "self._current = None\n            self.ended += 1",
        "self.ended += 1",
        "one keyframe only",
    ),
    _ros("node/parameters", "fixed and self._is_fixed() and", "False and", "fixed parameters can be changed"),
    _ros(
        "node/parameters",
        "            value = self._given(name)",
        "            value = default",
        "wrong types at start are ignored",
    ),
    _ros("node/diagnostics", "worst = max(", "worst = min(", "the best state is reported"),
    _ros("node/throttled_log", "now - written_at >= self._period", "True", "each message is written"),
    # nodes: the pipeline, the topics, the scale.
    _nodes(
        "fast_pipeline", "self._statistics.overwritten += 1", "pass", "overwritten frames are not counted"
    ),
    _nodes("fast_pipeline", "keyframes.accept(seconds, class_token)", "pass", "each frame is a keyframe"),
    _nodes(
        "depth_topics", "(values >= 1) & (values <= MAX_MILLIMETRES)", "values >= 1", "far depth wraps around"
    ),
    _nodes(
        "depth_topics",
        "return copy_camera_info(info, header), camera",
        "return info, camera",
        "another stamp",
    ),
    _nodes("metric_scale", "self._tracker.lost", "False", "a lost scale is not reported"),
    _nodes(
        "refined_topics",
        "if stamp <= self._last_stamp and not self._starts_anew(stamp, now):",
        "if False:",
        "refined depth out of order is published",
    ),
    _nodes("refined_topics", "max_age and age > max_age", "False", "max_age has no effect"),
    _nodes(
        "refine_pipeline", "job.on_stop(run.request_stop)", "pass", "a cancel waits for the end of the step"
    ),
    _nodes("refine_pipeline", "now - reported_at >= FEEDBACK_PERIOD", "True", "feedback for every step"),
    _nodes("refine_server", "message.outcome == FAILED or job.stopped", "False", "failed goals succeed"),
    _nodes(
        "refine_server",
        "        return self._work\n",
        "        return None\n",
        "deactivating does not wait for the goal",
    ),
    _nodes(
        "redepth_node",
        "if scale is not None:\n            scale_to_msg",
        "if False:\n            scale_to_msg",
        "frames come without their scale",
    ),
    _nodes(
        "guard",
        "    except RedepthError as error:\n        log.warn",
        "    except KeyError as error:\n        log.warn",
        "bad frames are unexpected errors",
    ),
    _nodes(
        "network_node",
        "time.monotonic() - self.log.last_at < WARNING_DURATION",
        "False",
        "warnings are not reported",
    ),
    _nodes("settings", "self.min_depth >= self.max_depth", "False", "an empty range of depth is accepted"),
    _nodes(
        "settings",
        "0.0 if metric or known else self.shift",
        "self.shift",
        "the shift applies to metric networks",
    ),
    _nodes(
        "stream_statistics", "if not self.received.rate():", "if False:", "missing images are not reported"
    ),
    _nodes(
        "redepth_node", 'self.settings.keyframes == "none"', "False", "refine_now succeeds without keyframes"
    ),
]
