// Asks the server that sent this page, as any other client of its interface does.

export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const makeSentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

export class Client {
  key = ""; // in memory only

  async models() {
    const list = await (await this.#send("/v1/models")).json();
    return list.data.map(({ id }) => id);
  }

  // The evidence of an answer as HTML.
  async writeEvidence(image, trace) {
    return (await (await this.#send("/v1/evidence", { method: "POST", body: JSON.stringify({ image, trace }) })).json()).page;
  }

  // Streams a chat: `onChunk` is told each chunk. Throws a Problem, or what `signal` aborts with.
  async chat(body, onChunk, signal) {
    const options = { stream: true, stream_options: { include_usage: true } };
    const response = await this.#send("/v1/chat/completions", { method: "POST", body: JSON.stringify({ ...body, ...options }), signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read().catch((error) => Promise.reject(signal.aborted ? error : new Problem("The connection broke off.")));
      if (done) throw new Problem("The reply broke off before its end.");
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Problem(makeSentence(chunk.error.message || "the model failed"));
        onChunk(chunk);
      }
    }
  }

  async #send(path, options = {}) {
    const headers = { "content-type": "application/json" };
    if (this.key) headers.authorization = `Bearer ${String.fromCharCode(...new TextEncoder().encode(this.key))}`;
    const response = await fetch(path, { ...options, headers }).catch((error) => {
      throw options.signal?.aborted ? error : new Problem("The server cannot be reached.");
    });
    if (response.ok) return response;
    const said = await response.json().then(({ error }) => error.message, () => "");
    throw new Problem(said ? makeSentence(said) : `The server replied with status ${response.status}.`, response.status);
  }
}
