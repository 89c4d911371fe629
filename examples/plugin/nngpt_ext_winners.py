"""A whole plugin: a prompt that shows both recipes and no source, and a task that counts a store's winners."""

from pydantic import BaseModel, ConfigDict, Field

from nngpt_ext import RunResult, Template, UserError, register_task

recipe_only = Template(
    name="recipe_only",
    system="Reply with the name of one of the two datasets and nothing else.",
    prompt="Which dataset has the higher relative accuracy?\n{a}: {recipe_a}\n{b}: {recipe_b}",
    columns={"a": "dataset", "recipe_a": "recipe_1", "b": "dataset_2", "recipe_b": "recipe_2"},
)


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")

    store: str = Field(description="prediction store (URL)")
    min_confidence: float = Field(0.5, ge=0.5, le=1.0, description="count only what is at least as sure")


@register_task("winners")
class Winners:
    name = "winners"
    Config = Config

    def run(self, config, output_dir, resume=False):
        from nngpt_ext import PredictionStore  # not above: it loads pandas, and listing tasks is to be quick

        with PredictionStore.open(config.store) as store:
            rows = store.query(min_confidence=config.min_confidence)
        if rows.empty:
            raise UserError(f"'{config.store}' holds no prediction of confidence {config.min_confidence:g}")
        counts = rows["predicted"].value_counts()
        output_dir.mkdir(parents=True, exist_ok=True)
        counts.to_csv(output_dir / "winners.csv")
        return RunResult(output_dir, report=counts.to_dict(), predictions=rows, adapter=None)
