// The page that is a headset: shows the code for the phone, and the quizzes and the action that are
// drawn, with their texts and what the player chooses.

import { Headset } from "/clients/relayd.js";
import { secretOf } from "./secret.js";
import { explain, follow } from "./status.js";
import { text } from "./texts.js";
import { token } from "./token.js";

const byId = (id) => document.getElementById(id);
const frame = byId("pair");
const { uuid } = frame.dataset;
const secret = secretOf(uuid);
const clock = new Intl.DateTimeFormat(document.documentElement.lang, { timeStyle: "medium" });
const headset = new Headset(location.origin, uuid, { token, secret });

function element(name, className, content = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = content;
  return made;
}

// The code

async function showCode() {
  const behind = secret ? `#secret=${encodeURIComponent(secret)}` : "";
  const address = `${location.origin}/pair/${uuid}/${behind}`;
  byId("link").href = address;
  const answer = await fetch("code", { method: "POST", body: address }).catch(() => null);
  byId("no-code").hidden = Boolean(answer?.ok);
  if (!answer?.ok) {
    byId("no-code").textContent = text("pair.js.no_code");
    return;
  }
  const drawn = new DOMParser().parseFromString(await answer.text(), "image/svg+xml");
  byId("code").replaceChildren(document.importNode(drawn.documentElement, true));
}

// The texts of what was drawn

// The rows of a table, in the order of the ids; throws an error with the `code` of docs/protocol.md.
async function rows(table, ids) {
  if (ids.length === 0) return [];
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch(`/api/${table}/${ids.join(",")}`, { headers });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.message), { code: body.error });
  return body[table];
}

let rounds = 0;

async function draw({ quiz_id: quizzes, action_id: action }) {
  const round = ++rounds;
  byId("failed").hidden = true;
  byId("round").replaceChildren();
  const values = { n: round, time: clock.format(new Date()) };
  byId("news").textContent = text("pair.js.round", values);
  try {
    const [questions, actions] = await Promise.all([rows("quizzes", quizzes), rows("actions", [action])]);
    if (round !== rounds) return; // something newer was drawn meanwhile
    const shown = [...questions.map(quiz), ...actions.map(toDo)];
    byId("round").replaceChildren(...shown);
    byId("drawn").scrollIntoView({ block: "nearest" }); // on a phone it is below the code
  } catch (error) {
    if (round !== rounds) return;
    const why = error.code ? explain(error) : text("js.silent");
    const ids = { quizzes: quizzes.join(", "), action, why };
    byId("failed").firstElementChild.textContent = text("pair.js.unread", ids);
    byId("failed").lastElementChild.onclick = () => draw({ quiz_id: quizzes, action_id: action });
    byId("failed").hidden = false;
  }
}

const quiz = (row) => card(row.name ?? "", row, "");
const toDo = (row) => card(text("pair.js.action"), row, row.detail ?? "");

// A question with its two choices; the detail of a quiz is the answer, so it follows the choice.
function card(title, row, above) {
  const field = element("fieldset", "question");
  field.append(element("legend", "", title));
  if (above) field.append(element("p", "detail", above));
  const name = `${title} ${row.id}`;
  const below = element("p", "detail", "");
  below.setAttribute("role", "status");
  const choices = element("div", "two");
  for (const choice of [row.lef_sel ?? "", row.rig_sel ?? ""]) {
    const button = Object.assign(element("input", ""), { type: "radio", name, value: choice });
    const label = element("label", "choice");
    label.append(button, element("span", "", choice));
    button.addEventListener("change", () => {
      below.replaceChildren(element("b", "", text("pair.js.chosen", { choice })));
      if (!above && row.detail) below.append(" ", row.detail);
    });
    choices.append(label);
  }
  field.append(choices, below);
  return field;
}

headset.addEventListener("assignment", ({ detail }) => draw(detail));
byId("round").addEventListener("submit", (event) => event.preventDefault());
showCode();
follow(headset, frame);
