"""A Qwen3-VL checkpoint as the two GGUF files of llama.cpp, LM Studio and Ollama: language model and vision encoder."""
