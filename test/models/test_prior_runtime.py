"""Runtimes of a prior, compared with torch; CUDA graphs as far as a CPU can tell."""

import shutil

import pytest
import torch
import torch._inductor.config
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel

from redepth_ros.core.errors import ConfigError, ModelError
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models import prior_runtime
from redepth_ros.models.diffusion import LIGHT_FEATURES, DiffusionPrior
from redepth_ros.models.engine import Engine
from redepth_ros.models.prior_runtime import compile_networks
from redepth_ros.nodes.settings import ServerSettings

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Recorder(torch.nn.Module):
    """Records how it is compiled."""

    def compile(self, **options):
        self.options = options


def small_prior() -> DiffusionPrior:
    """A light-conditioned prior of one block, with random weights."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=8,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        norm_num_groups=4,
        encoder_hid_dim=LIGHT_FEATURES,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=LIGHT_FEATURES,
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        num_encoder_blocks=(1,),
        num_decoder_blocks=(1,),
    )
    return DiffusionPrior(unet, vae, DDIMScheduler(prediction_type="sample"), None, "small")


def encode(prior):
    """Return the latents of random images and the gradient of their energy."""
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    latents = prior.encode(images, None)
    latents.square().sum().backward()
    return latents.detach(), images.grad


def test_compiled_latents_and_their_gradient_are_those_of_torch(tmp_path, monkeypatch):
    """The autoencoder's encoder alone: each kernel takes the C++ compiler a second."""
    if shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    expected, prior = encode(small_prior()), small_prior()
    compile_networks("compile", CPU, prior.vae.encoder)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch._inductor.config.patch(compile_threads=1):  # its processes take longer to start
        found = encode(prior)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs + 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_loaded_prior_has_unet_and_encoder_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network, **_: compiled.append(network))
    prior = DiffusionPrior.load("tiny", device="cpu", runtime="compile")
    assert compiled == [prior.unet, prior.vae.encoder]
    assert DiffusionPrior.load("tiny", device="cpu").unet not in compiled


def test_cuda_graphs_are_a_mode_of_torch_compile(monkeypatch):
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    for runtime, mode in (("compile", None), ("cudagraphs", "reduce-overhead")):
        network = Recorder()
        compile_networks(runtime, GPU, network)
        assert network.options == {"fullgraph": True, "mode": mode}


def test_refuses_unknown_runtimes_and_cuda_graphs_on_a_cpu():
    message = "prior_runtime is 'tensorrt'; it must be one of: torch, compile, cudagraphs"
    with pytest.raises(ConfigError, match=message):
        DiffusionPrior.load("tiny", device="cpu", runtime="tensorrt")
    with pytest.raises(ConfigError, match=message):
        ServerSettings(prior_runtime="tensorrt")
    with pytest.raises(
        ConfigError, match="prior_runtime is 'cudagraphs' and the device cpu: CUDA graphs need a GPU"
    ):
        Engine.load("tiny", "tiny", device="cpu", prior_runtime="cudagraphs")


def test_a_missing_compiler_is_named_with_the_remedy(monkeypatch):
    with (
        torch._inductor.config.patch({"cpp.cxx": ("/nonexistent/c++",)}),
        pytest.raises(ModelError, match=r"prior_runtime is 'compile', but there is no C\+\+ compiler"),
    ):
        compile_networks("compile", CPU, Recorder())
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(
        ModelError, match=r"prior_runtime is 'compile', but triton is not installed .*: pip install triton"
    ):
        compile_networks("compile", GPU, Recorder())


def test_a_prior_that_is_no_graph_is_an_error_at_warm_up(tiny_depth, monkeypatch):
    def forward(sample):
        torch._dynamo.graph_break()
        return sample

    monkeypatch.setattr(prior_runtime, "check_cpp_compiler", lambda _: None)
    prior = small_prior()
    prior.vae.encoder.forward = forward
    compile_networks("compile", CPU, prior.vae.encoder)
    with pytest.raises(ModelError, match=r"the prior can't be compiled: .*; use prior_runtime torch"):
        Engine(tiny_depth, prior).warm_up(RefineSettings(), 32)


def test_a_warm_up_passes_the_images_of_a_step_through_the_prior(tiny_depth, monkeypatch):
    prior, counts = small_prior(), []
    predict = prior.predict_noise
    monkeypatch.setattr(prior, "predict_noise", lambda x, *a: (counts.append(len(x)), predict(x, *a))[1])
    Engine(tiny_depth, prior).warm_up(RefineSettings(steps=160, ensemble_size=2, time_budget=1e-6), 32)
    assert counts == [6]
