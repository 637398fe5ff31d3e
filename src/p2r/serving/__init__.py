"""An OpenAI-compatible server whose answers are walks."""
