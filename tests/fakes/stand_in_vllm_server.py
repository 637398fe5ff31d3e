"""A stand-in for `vllm serve`: the stand-in for vLLM behind the endpoints that a trainer asks.

    python stand_in_vllm_server.py SITE CHECKPOINT PORT [ARGUMENT...]

SITE is the folder of the stand-in. GET /done tells what was done and asked, and with which arguments it was started.
A file SITE/deaths has how many calls each server to come lives for. Letters before it say what it then does, as vLLM
may when its engine dies. h: it leaves the next call open until the caller gives up. s: it stays for ever after such a
call, and listens no more. k: it keeps listening, and fails. Both count calls from when it has listed its model.
SITE/about.json changes what the engine says of itself, and SITE/failures.json has how many calls of a path fail.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import sys
import time
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

GENERATE = "/inference/v1/generate"
DEV = "VLLM_SERVER_DEV_MODE"


def serve(site: Path, model: str, port: int, arguments: list[str]) -> None:
    """Serve until the process is ended."""
    sys.path.insert(0, str(site))
    import vllm  # pyright: ignore[reportMissingImports]
    from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]

    deaths = site / "deaths"
    left = deaths.read_text().split() if deaths.exists() else []
    deaths.write_text("\n".join(left[1:]))
    num_left, way = (int(left[0].lstrip("hsk")), left[0][0]) if left else (None, "")
    failures = json.loads((site / "failures.json").read_text()) if (site / "failures.json").exists() else {}
    loop = asyncio.new_event_loop()

    async def start() -> object:
        args = {"dtype": "float32", "limit_mm_per_prompt": {}, "mm_processor_kwargs": {}, "max_model_len": 4096}
        made = vllm.AsyncEngineArgs(model=model, enable_prefix_caching=True, disable_log_stats=True, **args)
        return vllm.AsyncLLMEngine.from_engine_args(made)

    engine: Any = loop.run_until_complete(start())
    about = {"dtype": "float32", "logprobs_mode": "processed_logprobs", "max_model_len": 4096}
    if (site / "about.json").exists():
        about.update(json.loads((site / "about.json").read_text()))

    is_seen = False

    def die_in_time(caller: Handler) -> None:
        nonlocal num_left
        if way in ("s", "k") and not is_seen:  # who launches it may be later than who asks
            return
        if num_left is not None and num_left <= 0 and way != "k":
            if way in ("h", "s"):
                caller.server.socket.close()
                caller.rfile.read(1)
                while way == "s":
                    time.sleep(600)
            print("EngineCore encountered an issue", flush=True)
            os._exit(7)
        num_left = None if num_left is None else num_left - 1

    async def generate(body: dict[str, Any]) -> dict[str, Any]:
        images = []
        for part in body["content_parts"] or []:
            assert part["type"] == "image_url"
            images.append(Image.open(io.BytesIO(base64.b64decode(part["url"].partition(",")[2]))))
        given = body["sampling_params"]
        given["logit_bias"] = {int(token): bias for token, bias in given["logit_bias"].items()}
        sampling = vllm.SamplingParams(**given, output_kind=RequestOutputKind.FINAL_ONLY)
        prompt = {"prompt_token_ids": body["token_ids"], "multi_modal_data": {"image": images}}
        (output,) = [one async for one in engine.generate(prompt, sampling, "1")]
        choices = [asdict(reply) for reply in output.outputs]
        for choice in choices:
            drawn = [{"token_id": token, **told} for one in choice["logprobs"] for token, told in one.items()]
            choice["logprobs"] = {"content": drawn}
        return {"choices": choices, "prompt_token_ids": output.prompt_token_ids if body["return_token_ids"] else None}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def is_sick(self) -> bool:
            """Whether the engine has died, and this server keeps listening. As vLLM does, it still lists its model."""
            if way == "k" and num_left is not None and num_left < 0:
                self.reply({"error": {"message": "EngineCore encountered an issue"}}, 503)
                return True
            return False

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                nonlocal is_seen
                is_seen = True
                self.reply({"data": [{"id": model}]})
            elif self.is_sick():
                return
            elif self.path == "/health":
                self.reply({})
            elif self.path == GENERATE:
                self.reply({}, 405 if "--enable-scale-out" in arguments else 404)
            elif self.path == "/weight_info":
                self.reply({"weight_version": engine.version})
            else:
                images = [image for one in vllm.asked for image in one[0]["multi_modal_data"]["image"]]
                pixels = [image.convert("RGB").tobytes().hex() for image in images]
                seeds = [one[1].seed for one in vllm.asked]
                self.reply({"done": vllm.done, "arguments": arguments, "seeds": seeds, "pixels": pixels})

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            failures[self.path] = failures.get(self.path, 0) - 1
            if failures[self.path] >= 0:
                self.reply({"error": {"message": "not now"}}, 500)
            elif self.path == GENERATE and "--enable-scale-out" in arguments:
                die_in_time(self)
                if not self.is_sick():
                    self.reply(loop.run_until_complete(generate(body)))
            elif os.environ.get(DEV) != "1":
                self.reply({"detail": "Not Found"}, 404)
            elif self.path == "/collective_rpc" and body["method"] == "describe_engine":
                self.reply({"results": [about]})
            elif self.path == "/collective_rpc" and not Path(body["args"][0]).is_dir():
                self.reply({"error": {"message": f"no folder {Path(body['args'][0]).name}"}}, 500)
            elif self.path == "/collective_rpc":
                die_in_time(self)
                if not self.is_sick():
                    vllm.done.append([body["method"], *body["args"]])
                    self.reply({"results": [None]})
            elif self.path == "/update_weight_version":
                engine.version = body["new_version"]
                vllm.done.append(f"version {body['new_version']}")
                self.reply({})
            else:
                vllm.done.append(self.path)
                self.reply({})

        def reply(self, content: object, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
