// What ask.py is for Python's clients, for Node's: node ask.mjs CLIENT plain|stream BASE_URL KEY
import axios from "axios";
import OpenAI from "openai";

const question = { model: "hello", messages: [{ role: "user", content: "good morning" }] };
const [client, mode, baseURL, key] = process.argv.slice(2);
const stream = mode === "stream";
const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };

async function* askFetch() {
  const body = JSON.stringify({ ...question, stream });
  const answer = await fetch(`${baseURL}/chat/completions`, { method: "POST", headers, body });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}: ${await answer.text()}`);
  yield* said(answer.body);
}

async function* askAxios() {
  const options = { headers, responseType: "stream" };
  const answer = await axios.post(`${baseURL}/chat/completions`, { ...question, stream }, options);
  yield* said(answer.data);
}

async function* askOpenAI() {
  const { completions } = new OpenAI({ baseURL, apiKey: key }).chat;
  const answer = await completions.create({ ...question, stream });
  if (!stream) return yield answer.choices[0].message.content;
  for await (const event of answer) yield event.choices[0].delta.content ?? "";
}

async function* said(chunks) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of chunks) {
    text += decoder.decode(chunk, { stream: true });
    if (!stream) continue;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data).choices[0].delta.content ?? "";
    }
  }
  if (!stream) yield JSON.parse(text).choices[0].message.content;
}

const clients = { "node fetch": askFetch, axios: askAxios, "openai-node": askOpenAI };
for await (const piece of clients[client]()) if (piece) console.log(JSON.stringify(piece));
