// The OpenAI SDK for Node under its plain http server, one process.
// OPENAI_API_KEY and OPENAI_BASE_URL are read by the SDK; PORT is ours.

import http from "node:http";
import OpenAI from "openai";

const client = new OpenAI();

async function chat(request, response) {
  let body = "";
  for await (const piece of request) body += piece;
  const { messages } = JSON.parse(body);
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const stream = await client.chat.completions.create(
    { model: process.env.BENCH_MODEL, messages, stream: true },
    { signal: gone.signal },
  );
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  for await (const chunk of stream) {
    const text = chunk.choices[0]?.delta?.content;
    if (text) response.write(`data: ${JSON.stringify({ text })}\n\n`);
  }
  response.end("event: done\ndata: {}\n\n");
}

http
  .createServer((request, response) => {
    chat(request, response).catch(() => response.destroy());
  })
  .listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
