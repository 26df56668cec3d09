// The clients: search, follow the frames of one, kick.

import {
  api,
  byId,
  bytes,
  count,
  make,
  moment,
  request,
  row,
  tell,
  time,
  whenTyped,
} from "./console_base.js";
import { text } from "./texts.js";

const MOST_FRAMES = 500;
const CLOSING_LOOKS = 12;
const CLOSING_PAUSE = 500;
const form = byId("search");
let latest = 0;
let following = null;

/** Shows the clients that match, and returns them; nothing if that failed or is out of date. */
async function search() {
  const mine = ++latest;
  const query = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...query]) if (!value.trim()) query.delete(name);
  try {
    const { found, total, missing } = await api(`clients?${query}`);
    if (mine !== latest) return;
    byId("clients").replaceChildren(...found.map(line));
    const more =
      total > found.length
        ? text("console.js.first", { n: found.length, total: count(total) })
        : text("console.js.in_all", { total: count(total) });
    byId("total").textContent =
      more + missing.map((each) => ` ${text("console.js.missing", { worker: each })}`).join("");
    tell(byId("failed"), "");
    return found;
  } catch (error) {
    if (error.status !== 401) tell(byId("failed"), error.message);
  }
}

function line(client) {
  const follow = make("button", {
    type: "button",
    text: text("console.js.follow"),
    "aria-label": `${text("console.js.follow")}: ${client.id}`,
    on: { click: () => start(client) },
  });
  const kick = make("button", {
    type: "button",
    class: "danger",
    text: text("console.js.kick"),
    "aria-label": `${text("console.js.kick")}: ${client.id}`,
    on: { click: () => close(client) },
  });
  return row([
    [text("console.js.id"), client.id],
    [text("console.js.kind"), client.kind],
    [text("console.js.path"), client.path],
    [text("console.js.address"), client.peer],
    [text("console.js.user"), client.user ?? "–"],
    [text("console.js.since"), moment(client.since), "nowrap"],
    [text("console.js.messages"), count(client.messages), "number"],
    [text("console.js.buffered"), bytes(client.waiting), "number"],
    ["", make("span", { class: "buttons" }, follow, kick)],
  ]);
}

async function close(client) {
  if (!confirm(text("console.js.confirm_kick", { id: client.id, peer: client.peer }))) return;
  try {
    const done = await api("kick", { method: "POST", body: { ids: [client.id] } });
    tell(byId("failed"), done.count ? "" : text("console.js.gone_client", { id: client.id }));
  } catch (error) {
    tell(byId("failed"), error.message);
  }
  // the client closes its side, too, which may take as long as relayd waits for that
  for (let look = 0; look < CLOSING_LOOKS; look++) {
    const found = await search();
    if (!found?.some((each) => each.id === client.id)) return;
    await new Promise((done) => setTimeout(done, CLOSING_PAUSE));
  }
}

async function start(client) {
  stop();
  const own = (following = new AbortController());
  byId("follow").hidden = false;
  byId("following").textContent = `${client.id} ${client.path} ${client.peer}`;
  byId("frames").replaceChildren();
  byId("follow-state").textContent = "";
  byId("following").focus();
  let ended = text("console.js.stream_ended");
  try {
    const response = await request(`trace?id=${encodeURIComponent(client.id)}`, {
      signal: own.signal,
    });
    byId("follow-state").textContent = text("console.js.following");
    for await (const event of events(response.body)) {
      if (event.event === "ended") ended = text("console.js.disconnected");
      show(event);
    }
  } catch (error) {
    ended = error.name === "AbortError" ? text("console.js.stopped") : error.message;
  }
  if (following === own) byId("follow-state").textContent = ended;
}

function stop() {
  following?.abort();
}

/** The objects of a body that has one JSON object a line. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const each of lines) if (each) yield JSON.parse(each);
  }
}

function show(event) {
  const words = {
    in: text("console.js.in"),
    out: text("console.js.out"),
    left_out: text("console.js.left_out"),
    begin: text("console.js.begin"),
    ended: text("console.js.ended"),
  };
  if (!(event.event in words)) return;
  const payload =
    event.type === "close"
      ? `close ${event.code ?? ""} ${event.reason ?? ""}`
      : (event.text ?? (event.lines ? text("console.js.lines", { n: event.lines }) : ""));
  const item = make(
    "li",
    { class: event.event },
    make("span", {
      class: "note",
      text: `${event.time ? time(event.time) : ""} ${words[event.event]} ${event.type ?? ""}${event.waits ? text("console.js.waits") : ""}`,
    }),
    make("code", { text: payload + (event.cut ? " …" : "") }),
  );
  const list = byId("frames");
  list.prepend(item);
  while (list.childElementCount > MOST_FRAMES) list.lastElementChild.remove();
}

byId("stop").addEventListener("click", stop);
form.addEventListener("submit", (event) => (event.preventDefault(), search()));
form.addEventListener("change", search);
whenTyped(byId("text"), search);
search();
