"""Models: in this process (`local`, `vllm`), behind a server (`server`), or scripted; `load.load_model` loads any."""
