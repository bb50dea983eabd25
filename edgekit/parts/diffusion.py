"""Text-to-image pipelines of diffusers: graphs of text encoder, UNet and VAE; noise is taken away in the loop outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.artifacts import Batch
from edgekit.core.errors import ExportError
from edgekit.core.parts import Component, Parts, component_module

if TYPE_CHECKING:
    import torch

    from edgekit.core.plugin import Context


class Diffusion(Parts):
    """Divide into ``text``, ``unet`` and ``decoder``. Sampling is DDIM without added noise, whatever scheduler the pipeline names."""

    program = "diffusion"

    steps: int = Field(20, ge=1, le=1000, description="Times that the UNet is asked.")
    guidance: float = Field(7.5, ge=1, description="How far the picture follows the text; 1 asks the UNet once a step, more twice.")
    size: int | None = Field(None, ge=8, description="Height and width in pixels; the model's own where left out.")
    unconditional: tuple[int, ...] = Field((), description="Tokens of the empty text; zeros where left out.")
    seed: int = Field(0, ge=0, description="Of the noise that every picture starts from.")

    def divide(self, module: torch.nn.Module, context: Context) -> dict[str, Component]:
        """Return ``text``, ``unet`` and ``decoder``.

        Raises:
            ExportError: no pipeline of diffusers.
        """
        import numpy as np
        import torch

        model = _checked(module)

        def text(input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"hidden": model.text_encoder.forward(input_ids=input_ids).last_hidden_state}

        def unet(sample: torch.Tensor, timestep: torch.Tensor, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"noise": model.unet.forward(sample, timestep, encoder_hidden_states=hidden).sample}

        def decoder(latents: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"image": model.vae.decode(latents).sample}

        tokens = np.ascontiguousarray(context.example["input_ids"][:1].astype(np.int64))
        with torch.inference_mode():
            hidden = text(torch.from_numpy(tokens))["hidden"].numpy()
        sample = np.random.default_rng(self.seed).standard_normal((1, *self._latents(model))).astype(np.float32)
        asked = {"sample": sample, "timestep": np.array([500]), "hidden": hidden}
        return {
            "text": Component(component_module(model.text_encoder, ["input_ids"], text), {"input_ids": tokens}),
            "unet": Component(component_module(model.unet, list(asked), unet), asked),
            "decoder": Component(component_module(model.vae, ["latents"], decoder), {"latents": sample}),
        }

    def settings(self, module: torch.nn.Module) -> dict[str, Any]:
        """Return the schedule of DDIM's own implementation, as numbers."""
        model = _checked(module)
        scheduler = self._scheduler(model)
        stride = scheduler.config.num_train_timesteps // self.steps
        signal = scheduler.alphas_cumprod.double().tolist()
        steps = []
        for timestep in scheduler.timesteps.tolist():
            before = timestep - stride
            steps.append([timestep, signal[timestep], signal[before] if before >= 0 else float(scheduler.final_alpha_cumprod)])
        return {
            "steps": steps,
            "predicts": scheduler.config.prediction_type,
            "clip": scheduler.config.clip_sample_range if scheduler.config.clip_sample else None,
            "guidance": self.guidance,
            "unconditional": self._unconditional(model),
            "scaling": model.vae.config.scaling_factor,
            "seed": self.seed,
        }

    def reference(self, module: torch.nn.Module, inputs: Batch) -> Batch:
        """Return the picture that diffusers' own scheduler makes of the same noise."""
        import numpy as np
        import torch

        model = _checked(module)
        scheduler = self._scheduler(model)
        noise = np.random.default_rng(self.seed).standard_normal((1, *self._latents(model))).astype(np.float32)
        sample = torch.from_numpy(noise)
        with torch.inference_mode():
            tokens = [self._unconditional(model), *inputs["input_ids"].tolist()]
            hidden = model.text_encoder(input_ids=torch.tensor(tokens)).last_hidden_state
            for timestep in scheduler.timesteps:
                found = model.unet(torch.cat([sample, sample]), timestep, encoder_hidden_states=hidden).sample
                guided = found[:1] + self.guidance * (found[1:] - found[:1])
                sample = scheduler.step(guided, timestep, sample).prev_sample
            image = model.vae.decode(sample / model.vae.config.scaling_factor).sample
        return {"image": (image / 2 + 0.5).clamp(0, 1).numpy()}

    def _scheduler(self, model: Any) -> Any:
        import diffusers

        kind: Any = diffusers.DDIMScheduler
        scheduler = kind.from_config(model.scheduler)
        scheduler.set_timesteps(self.steps)
        return scheduler

    def _latents(self, model: Any) -> tuple[int, int, int]:
        factor = 2 ** (len(model.vae.config.block_out_channels) - 1)
        side = self.size // factor if self.size else int(model.unet.config.sample_size)
        return int(model.unet.config.in_channels), side, side

    def _unconditional(self, model: Any) -> list[int]:
        return list(self.unconditional) or [0] * int(model.text_encoder.config.max_position_embeddings)


def _checked(module: torch.nn.Module) -> Any:
    if not all(hasattr(module, name) for name in ("text_encoder", "unet", "vae", "scheduler")):
        raise ExportError(
            f"{type(module).__name__} is no text-to-image pipeline", hint="load a folder of diffusers, with a text encoder, UNet and VAE"
        )
    return module
