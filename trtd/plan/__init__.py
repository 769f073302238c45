"""Pure planning: Spec + ModelFacts + Target to BuildPlan, and the reasons why an engine is stale."""
