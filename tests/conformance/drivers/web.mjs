// Drives clients/web/relayd.js for tests/conformance: node web.mjs WS KIND URL NAME [option=value …],
// where WS is the folder of npm's ws, the WebSocket of a Node that has none. See ../driver.py.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { webcrypto } from "node:crypto";

const [folder, kind, url, name, ...rest] = process.argv.slice(2);
const { WebSocket } = createRequire(import.meta.url)(folder);

globalThis.WebSocket = WebSocket;
globalThis.crypto ??= webcrypto; // Node 18
globalThis.CustomEvent ??= class extends Event {
  constructor(type, { detail }) {
    super(type);
    this.detail = detail;
  }
};
const kit = await import("../../../clients/web/relayd.js");

const options = Object.fromEntries(rest.map((option) => option.split(/=(.*)/s)));
let { token } = options;

const tell = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
const problem = ({ code, message }) => tell("problem", { error: code, message });

const classes = {
  camera: kit.Camera,
  chat: kit.Chat,
  phone: kit.Phone,
  headset: kit.Headset,
  push: kit.Push,
};
const client = new classes[kind](url, name, {
  query: options.since ? { since: options.since } : {},
  token: () => token ?? null,
  pace: options.fast === "1" ? 1 / 20 : 1,
});

client.addEventListener("state", () => {
  const { name, error, retryAt } = client.state;
  tell("state", {
    name,
    again_in: retryAt ? (retryAt - Date.now()) / 1000 : null,
    error: error?.code ?? "",
    status: error?.status ?? 0,
    close_code: error?.closeCode ?? 0,
    message: error?.message ?? "",
  });
});
client.addEventListener("problem", ({ detail }) => problem(detail));
client.addEventListener("pose", ({ detail }) => tell("pose", detail));
client.addEventListener("assignment", ({ detail }) => tell("assignment", detail));
client.addEventListener("headset", ({ detail }) => tell("headset", { here: detail }));
client.addEventListener("gap", () => tell("gap"));
if (kind === "push") client.addEventListener("frame", ({ detail }) => tell("push", { data: detail }));

const said = new Set();
const copied = ({ detail: { message, id, tag = "" } }) => {
  if (said.delete(tag)) tell("sent", { tag });
  return { message, id: String(id), tag };
};
const mine = (tag) => said.has(tag);
client.addEventListener("message", (event) => {
  const own = mine(event.detail.tag);
  tell("message", { ...copied(event), mine: own });
});
client.addEventListener("repeated", copied);

const send = {
  camera: ({ x, y, z }) => client.move(x, y, z),
  chat: ({ message }) => said.add(client.say(message).tag),
  phone: ({ difficulty }) => client.ask(difficulty).then(() => tell("received"), problem),
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    if (command.send) for (let n = 0; n < (command.times ?? 1); n += 1) send[kind](command.send);
    else if (command.token) token = command.token;
    else if (command.close) client.close();
  })
  .on("close", () => process.exit());
client.connect();
