"""A whole plugin: a task, a prompt and a fine-tuner."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from nngpt_ext import RunResult, register_task
from nngpt_ext.prompts.template import Template


class SampleConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    greeting: str = "hello"
    times: int = Field(1, ge=1, le=3)


class SampleReport(BaseModel):
    text: str

    def __str__(self):
        return self.text


@register_task("sample")
class Sample:
    """Writes a greeting."""

    name = "sample"
    Config = SampleConfig

    def run(self, config, output_dir, resume=False):
        output_dir.mkdir(parents=True, exist_ok=True)
        report = SampleReport(text=" ".join([config.greeting] * config.times))
        (output_dir / "greeting.txt").write_text(report.text)
        return RunResult(output_dir, report, None, None)


def terse():
    columns = {"code": "nn_code", "a": "dataset", "b": "dataset_2"}
    return Template("terse", "", "{code}\n{a} or {b}?", columns)


def train_nothing(base, examples, validation, config, output_dir):
    return Path(output_dir) / "adapter"
