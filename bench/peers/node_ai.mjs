// The Vercel AI SDK under Node's plain http server, one process: streamText with its own wire format.
// PORT is ours; the provider is the one the SDK offers for servers like the fake upstream.

import http from "node:http";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const provider = createOpenAICompatible({
  name: "bench",
  apiKey: process.env.OPENAI_API_KEY,
  baseURL: process.env.OPENAI_BASE_URL,
});

async function chat(request, response) {
  let body = "";
  for await (const piece of request) body += piece;
  const { messages } = JSON.parse(body);
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  streamText({
    model: provider(process.env.BENCH_MODEL),
    messages,
    abortSignal: gone.signal,
    onError: () => {},
  }).pipeUIMessageStreamToResponse(response);
}

http
  .createServer((request, response) => {
    chat(request, response).catch(() => response.destroy());
  })
  .listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
