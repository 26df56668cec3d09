// The driver of clients/web under Node: see tests/conformance/__init__.py.

import { createInterface } from "node:readline";

const { WebSocket } = await import(process.env.RELAYD_TESTS_WS);
globalThis.WebSocket ??= WebSocket;
const kits = await import("../../../clients/web/relayd.js");

const [kind, url, name, ...rest] = process.argv.slice(2);
const options = Object.fromEntries(rest.map((each) => [each.slice(0, each.indexOf("=")), each.slice(each.indexOf("=") + 1)]));
const print = (event, members = {}) => process.stdout.write(`${JSON.stringify({ event, ...members })}\n`);

let token = options.token ?? null;
const query = options.since === undefined ? {} : { since: options.since };
const Kind = { camera: kits.Camera, chat: kits.Chat, phone: kits.Phone, headset: kits.Headset, push: kits.Push }[kind];
const client = new Kind(url, name, { query, token: () => token, pace: options.fast ? 0.05 : 1 });

client.addEventListener("state", () => {
  const { name: state, error, retryAt } = client.state;
  print("state", {
    name: state === "idle" ? "closed" : state,
    again_in: retryAt ? (retryAt - Date.now()) / 1000 : null,
    error: error?.code ?? "",
    status: error?.status ?? 0,
    close_code: error?.closeCode ?? 0,
    message: error?.message ?? "",
  });
});
client.addEventListener("problem", ({ detail }) => print("problem", { error: detail.code, message: detail.message }));
client.addEventListener("pose", ({ detail }) => print("pose", detail));
client.addEventListener("gap", () => print("gap"));
client.addEventListener("assignment", ({ detail }) => print("assignment", detail));
client.addEventListener("headset", ({ detail }) => print("headset", { here: detail }));
if (kind === "push") client.addEventListener("frame", ({ detail }) => print("push", { data: detail }));

const mine = new Set();
const message = ({ detail }) => {
  const own = mine.has(detail.tag);
  print("message", { message: detail.message, id: String(detail.id), tag: detail.tag ?? "", mine: own });
  if (own) print("sent", { tag: detail.tag });
};
client.addEventListener("message", message);
client.addEventListener("repeated", ({ detail }) => mine.has(detail.tag) && print("sent", { tag: detail.tag }));

const send = (frame) => {
  if (kind === "chat") mine.add(client.say(frame.message).tag);
  else if (kind === "camera") client.move(frame.x, frame.y, frame.z);
  else if (kind === "phone") {
    client.ask(frame.difficulty).then(
      () => print("received"),
      (error) => print("problem", { error: error.code, message: error.message }),
    );
  } else client.send(frame);
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    if (command.token !== undefined) token = command.token;
    for (let time = 0; command.send && time < (command.times ?? 1); time += 1) send(command.send);
    if (command.close) client.close();
  })
  .on("close", () => process.exit(0));
client.connect();
