"""A rasteriser: renders scenes with furniture models fast, by OpenGL on the CPU (moderngl, Mesa's EGL).

`render.py` casts rays and needs no driver; this one draws triangles, so that models of furniture fit in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import moderngl
import numpy as np
from numpy.typing import NDArray

from training.real_images import read_image
from training.scenes.meshes import TEXTURE_SIZE, Mesh
from training.scenes.render import Scene

__all__ = ["Rasterizer", "find_textures", "read_textures"]

SUPERSAMPLING, NEAR, FAR = 2, 0.05, 300.0
SHADOW_SIDE = 1024

VERTEX = """
#version 330
uniform mat4 project;
in vec3 at; in vec3 facing; in vec2 uv; in float layer; in vec3 tint; in vec2 gloss;
out vec3 p; out vec3 n; out vec2 t; flat out float texture_layer; out vec3 color; flat out vec2 shine;
void main() {
    gl_Position = project * vec4(at, 1.0);
    p = at; n = facing; t = uv; texture_layer = layer; color = tint; shine = gloss;
}
"""

FRAGMENT = """
#version 330
uniform sampler2DArray atlas; uniform sampler2DShadow shadow; uniform mat4 shadow_project;
uniform vec3 eye; uniform vec3 forward; uniform vec3 ambient; uniform vec3 zenith; uniform float haze;
uniform vec4 lights[2]; uniform vec3 powers[2]; uniform int count; uniform int casts;
in vec3 p; in vec3 n; in vec2 t; flat in float texture_layer; in vec3 color; flat in vec2 shine;
layout(location = 0) out vec4 rgb; layout(location = 1) out float depth;
void main() {
    vec3 view = normalize(eye - p);
    vec3 normal = normalize(n);
    if (dot(normal, view) < 0.0) normal = -normal;
    vec2 mirrored = 1.0 - abs(mod(t, 2.0) - 1.0);
    vec3 texel = textureGrad(atlas, vec3(mirrored, texture_layer), dFdx(t), dFdy(t)).rgb;
    vec3 albedo = color * pow(texel, vec3(2.2));
    vec3 light = albedo * ambient * (0.65 + 0.35 * normal.z);
    for (int i = 0; i < count; i++) {
        vec3 way = lights[i].w == 0.0 ? lights[i].xyz : lights[i].xyz - p;
        vec3 toward = normalize(way);
        float received = max(dot(normal, toward), 0.0);
        if (i == 0 && casts == 1) {
            vec4 s = shadow_project * vec4(p + 0.02 * normal, 1.0);
            vec3 q = s.xyz / s.w * 0.5 + 0.5;
            if (s.w > 0.0 && all(greaterThan(q, vec3(0.0))) && all(lessThan(q, vec3(1.0))))
                received *= texture(shadow, vec3(q.xy, q.z - 2e-4));
        }
        float specular = received > 0.0 ? pow(max(dot(normal, normalize(toward + view)), 0.0), shine.y) : 0.0;
        light += powers[i] * (albedo * received + shine.x * specular * min(received * 4.0, 1.0));
    }
    depth = dot(p - eye, forward);
    light = mix(0.5 + 0.5 * zenith, light, exp(-haze * depth));
    rgb = vec4(pow(clamp(light, 0.0, 1.0), vec3(1.0 / 2.2)), 1.0);
}
"""


def find_textures(folder: Path) -> list[Path]:
    """Return the photographic tiles (.jpg) of a folder."""
    return sorted(folder.glob("[A-Z]*_[0-9][0-9][0-9].jpg"))


def read_textures(folder: Path) -> list[NDArray[np.uint8]]:
    """Read photographic tiles (RGB) and resize them to the side of the atlas' textures."""
    return [
        cv2.resize(read_image(path)[..., ::-1], (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_AREA)
        for path in find_textures(folder)
    ]


def _look(axes: NDArray, position: NDArray) -> NDArray:
    """Return the matrix (4, 4) from the world to OpenGL's eye frame; `axes` are right, down, forward."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack((axes[:, 0], -axes[:, 1], -axes[:, 2]))
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix


def _perspective(x: float, y: float, near: float, far: float) -> NDArray:
    """Return a projection (4, 4) with 2 f / width and 2 f / height."""
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1, 1], matrix[3, 2] = x, y, -1.0
    matrix[2, 2], matrix[2, 3] = -(far + near) / (far - near), -2.0 * far * near / (far - near)
    return matrix


def _axes_towards(forward: NDArray) -> NDArray:
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0) if abs(forward[2]) < 0.9 else (1.0, 0.0, 0.0))
    right /= np.linalg.norm(right)
    return np.stack((right, np.cross(forward, right), forward), axis=1)


@dataclass(frozen=True)
class _Targets:
    color: moderngl.Texture
    depth: moderngl.Texture
    frame: moderngl.Framebuffer


class Rasterizer:
    """Draws scenes with one atlas of textures."""

    def __init__(self, textures: NDArray[np.uint8], width: int, height: int) -> None:
        """Args:
        textures: (N, S, S, 3) sRGB bytes.
        width, height: size of images in pixels.
        """
        self._context = moderngl.create_context(standalone=True, backend="egl")
        self._program = self._context.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        self._depth_only = self._context.program(
            vertex_shader="#version 330\nuniform mat4 project; in vec3 at;"
            " void main() { gl_Position = project * vec4(at, 1.0); }",
            fragment_shader="#version 330\nvoid main() {}",
        )
        side = textures.shape[1]
        self._atlas = self._context.texture_array((side, side, len(textures)), 3, textures.tobytes())
        self._atlas.build_mipmaps()
        self._atlas.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        self._width, self._height = width, height
        size = (SUPERSAMPLING * width, SUPERSAMPLING * height)
        color, depth = self._context.texture(size, 3), self._context.texture(size, 1, dtype="f4")
        frame = self._context.framebuffer([color, depth], self._context.depth_renderbuffer(size))
        self._targets = _Targets(color, depth, frame)
        self._shadow = self._context.depth_texture((SHADOW_SIDE, SHADOW_SIDE))
        self._shadow.compare_func = "<="
        self._shadow_frame = self._context.framebuffer(depth_attachment=self._shadow)

    def _shadow_matrix(self, scene: Scene) -> NDArray:
        light = scene.lights[0]
        place, eye = light.position.numpy().astype(float), scene.position.numpy().astype(float)
        if not light.directional:  # a lamp under the ceiling lights what is below it
            return _perspective(0.35, 0.35, 0.05, 40.0) @ _look(
                _axes_towards(np.array([0.0, 0.0, -1.0])), place
            )
        middle = eye + 14.0 * scene.orientation[:, 2].numpy()
        ortho = np.diag((1 / 22.0, 1 / 22.0, -1 / 60.0, 1.0))
        return ortho @ _look(_axes_towards(-place), middle)

    def render(self, scene: Scene, mesh: Mesh) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draw a scene: image (H, W, 3) sRGB, and depth (H, W) in metres, infinite in the sky."""
        buffer = self._context.buffer(np.ascontiguousarray(mesh.vertices).tobytes())
        layout = "3f 3f 2f 1f 3f 2f"
        names = ("at", "facing", "uv", "layer", "tint", "gloss")
        draw = self._context.vertex_array(self._program, [(buffer, layout, *names)])
        draw_depth = self._context.vertex_array(self._depth_only, [(buffer, "3f 44x", "at")])
        self._context.enable(moderngl.DEPTH_TEST)

        shadow = self._shadow_matrix(scene)
        self._shadow_frame.use()
        self._shadow_frame.clear(depth=1.0)
        self._depth_only["project"].write(shadow.T.astype("f4").tobytes())
        draw_depth.render(first=mesh.first_caster)

        camera, eye = scene.camera, scene.position.numpy().astype(float)
        view = _look(scene.orientation.numpy().astype(float), eye)
        project = _perspective(2 * camera.fx / camera.width, 2 * camera.fy / camera.height, NEAR, FAR) @ view
        program = self._program
        program["project"].write(project.T.astype("f4").tobytes())
        program["shadow_project"].write(shadow.T.astype("f4").tobytes())
        program["eye"], program["forward"] = tuple(eye), tuple(scene.orientation[:, 2].tolist())
        program["ambient"], program["zenith"], program["haze"] = scene.ambient, scene.sky, scene.haze
        lights = [(*light.position.tolist(), 0.0 if light.directional else 1.0) for light in scene.lights]
        powers = [light.color for light in scene.lights]
        program["lights"] = (lights * 2)[:2]
        program["powers"] = (powers * 2)[:2]
        program["count"], program["casts"] = min(2, len(lights)), int(scene.lights[0].shadow)
        program["atlas"], program["shadow"] = 0, 1
        self._atlas.use(0)
        self._shadow.use(1)
        frame = self._targets.frame
        frame.use()
        frame.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        draw.render()
        size = (SUPERSAMPLING * self._height, SUPERSAMPLING * self._width)
        color = np.frombuffer(self._targets.color.read(alignment=1), np.uint8).reshape(*size, 3)[::-1]
        depth = np.frombuffer(self._targets.depth.read(alignment=1), np.float32).reshape(size)[::-1]
        for one in (draw, draw_depth, buffer):
            one.release()
        return self._finish(scene, color, depth)

    def _finish(
        self, scene: Scene, color: NDArray[np.uint8], depth: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Paint the sky, darken creases and reduce to the image's size."""
        sky = depth <= 0.0
        if sky.any():
            rays = scene.camera.resized(depth.shape[1], depth.shape[0]).rays().permute(1, 2, 0).numpy()
            up = (rays @ scene.orientation.numpy().T)[..., 2] / np.linalg.norm(rays, axis=-1)
            zenith, up = np.asarray(scene.sky), np.clip(up, 0.0, 1.0)[..., None]
            heaven = np.clip(zenith * up + (0.5 + 0.5 * zenith) * (1.0 - up), 0.0, 1.0) ** (1 / 2.2)
            color = np.where(sky[..., None], 255.0 * heaven, color).astype(np.uint8)
        small = cv2.resize(color, (self._width, self._height), interpolation=cv2.INTER_AREA)
        depth = depth[::SUPERSAMPLING, ::SUPERSAMPLING]
        depth = np.where(depth <= 0.0, np.inf, depth)
        # Ambient occlusion: a surface behind its neighbourhood gets less light.
        inverse = (1.0 / depth).astype(np.float32)
        behind = np.clip(cv2.GaussianBlur(inverse, (0, 0), 5.0) / np.maximum(inverse, 1e-3) - 1.0, 0.0, 1.0)
        shaded = small * (1.0 - 0.5 * np.where(np.isfinite(depth), behind, 0.0))[..., None]
        return shaded.astype(np.uint8), depth
